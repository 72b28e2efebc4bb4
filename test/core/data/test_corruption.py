"""Corruption in training: only inputs, only what is present, reproducible, and each kind as it is described."""

import pytest
import torch
from pydantic import ValidationError

from smvae_core.data.corruption import KINDS, CorruptionConfiguration, Plan, Probabilities
from smvae_core.modality import vision_touch_modalities
from smvae_core.training.objective import Objective

MODALITIES = vision_touch_modalities()
EVENLY = Probabilities(**dict.fromkeys(KINDS, 0.125))


def every(kind: str) -> CorruptionConfiguration:
    return CorruptionConfiguration(images=Probabilities(**{kind: 1.0}), numbers=Probabilities(**{kind: 1.0}))


def everything(rows: int = 6) -> torch.Tensor:
    return torch.ones(rows, len(MODALITIES), dtype=torch.bool)


def plan(configuration: CorruptionConfiguration, available: torch.Tensor, seed: int = 0) -> Plan:
    return Plan.draw(available, configuration, MODALITIES, torch.Generator().manual_seed(seed))


def test_each_kind_is_as_likely_as_it_is_set():
    images = Probabilities(blank=0.1, another=0.3)
    kinds = plan(CorruptionConfiguration(images=images, numbers=EVENLY), everything(20_000)).kind
    for column, modality in enumerate(MODALITIES):
        probabilities = images if len(modality.shape) == 3 else EVENLY
        found = torch.tensor([(kinds[:, column] == k).float().mean() for k in range(len(KINDS))])
        torch.testing.assert_close(found, torch.tensor(probabilities.of_each()), rtol=0, atol=0.015)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_copy_is_corrupted_and_nothing_that_is_absent(batch, kind):
    available = everything()
    available[0], available[:, 2] = False, False
    nan = {
        name: torch.where(torch.arange(6).view(-1, *[1] * (x.ndim - 1)) > 0, x, torch.nan) for name, x in batch.items()
    }
    before = {name: x.clone() for name, x in nan.items()}
    found = plan(every(kind), available).apply(nan, MODALITIES)
    assert torch.equal(found.changed, available)
    for column, (name, x) in enumerate(nan.items()):
        torch.testing.assert_close(x, before[name], rtol=0, atol=0, equal_nan=True)
        kept = ~available[:, column]
        torch.testing.assert_close(found.batch[name][kept], x[kept], rtol=0, atol=0, equal_nan=True)
        assert found.batch[name][~kept].isfinite().all()
        if available[:, column].any() and kind not in ("shifted", "partly_blank"):
            assert not torch.equal(found.batch[name][~kept], x[~kept])


def test_the_same_generator_state_corrupts_the_same_and_a_part_as_the_whole(batch):
    configuration = CorruptionConfiguration(images=EVENLY, numbers=EVENLY)
    first, again = (plan(configuration, everything()).apply(batch, MODALITIES) for _ in "ab")
    assert all(torch.equal(first.batch[name], again.batch[name]) for name in batch)
    without = CorruptionConfiguration(images=Probabilities(noisy=0.5), numbers=Probabilities(biased=0.5))
    whole, rows = plan(without, everything()), slice(2, 5)
    part = whole.part(rows).apply({name: x[rows] for name, x in batch.items()}, MODALITIES)
    for name, x in whole.apply(batch, MODALITIES).batch.items():
        assert torch.equal(part.batch[name], x[rows])


def test_each_process_takes_other_samples_from_its_own_part(batch):
    """Under torchrun every process draws the plan of the whole batch, and has its own samples alone."""
    whole = plan(every("another"), everything())
    for rows in (slice(0, 4), slice(4, 6), slice(2, 3)):
        own = {name: x[rows] for name, x in batch.items()}
        found = whole.part(rows).apply(own, MODALITIES)
        several = rows.stop - rows.start > 1
        assert bool(found.changed.all()) == bool(found.changed.any()) == several
        for name, x in own.items():
            same = (found.batch[name][:, None] == x[None]).flatten(2).all(dim=2)
            assert same.any(dim=1).all(), "a sample of the own part"
            assert bool(same.diagonal().any()) != several, "never the sample itself, unless it is alone"


def test_each_kind_does_what_it_is_called(batch):
    found = {kind: plan(every(kind), everything()).apply(batch, MODALITIES).batch for kind in KINDS}
    for name, x in batch.items():
        assert not found["blank"][name].any()
        assert 0.2 < (found["partly_blank"][name] == 0).float().mean() < 0.8
        assert (found["darkened"][name].abs() <= 0.5 * x.abs()).all()
        assert found["saturated"][name].abs().max() <= x.abs().max()
        assert all(any(torch.equal(y, z) for z in x) for y in found["another"][name])
        assert not any(torch.equal(y, z) for y, z in zip(found["another"][name], x))
        assert not torch.equal(found["noisy"][name], x) and not torch.equal(found["biased"][name], x)
    for kind in ("noisy", "biased"):
        assert found[kind]["rgb"].min() >= 0.0 and found[kind]["rgb"].max() <= 1.0
    bias = found["biased"]["force"] - batch["force"]
    torch.testing.assert_close(bias, bias[:, :, :1].expand_as(bias))


def test_targets_stay_clean(model, batch):
    """The whole set's term, which sees clean modalities, scores the same with and without corruption."""
    available, objective = everything(), Objective(model, model.system.settings())
    draws = model.system.draw(objective.settings, available, 64, model.names, torch.Generator().manual_seed(0))
    corrupted = plan(every("blank"), available).apply(batch, MODALITIES)
    bounds = [objective(batch, draws, 1.0, 1.0, seen) for seen in (None, corrupted)]
    torch.testing.assert_close(bounds[0].rows[0], bounds[1].rows[0])
    assert (bounds[0].rows[1] - bounds[1].rows[1]).abs().max() > 1.0


def test_probabilities_above_one_are_refused():
    with pytest.raises(ValidationError, match="add up to at most 1, found 1.2"):
        Probabilities(blank=0.6, another=0.6)
