"""The held-out part: of whole trajectories or blocks of time, of the wanted length, with every modality."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_core.data.columns import CONTACT, POSE, VALID, Chunk
from smvae_core.data.formats.protocol import LogError, Trajectory
from smvae_core.data.samples import Samples, samples_of
from smvae_core.data.splits import split_by_time, split_by_trajectory
from smvae_core.modality import Modality
from smvae_core.preprocessing import Vector


def modality(name: str) -> Modality:
    return Modality(
        name=name, source=name, preprocessing=Vector(size=1), network="vector", likelihood="normal", pairs="same"
    )


MODALITIES = (modality("force"), modality("touch"))


def trajectories(lengths: list[int], lacking: dict[int, str] | None = None) -> Samples:
    """Samples of trajectories of these lengths; `lacking` names the modality that a trajectory does not have."""
    chunks, first = {}, 0
    for number, length in enumerate(lengths):
        chunks[Path(f"{number}.h5")] = Chunk(first, length, frozenset({(lacking or {}).get(number, "")} - {""}))
        first += length
    arrays = {m.name: np.zeros((first, 1), np.float32) for m in MODALITIES}
    arrays |= {CONTACT: np.zeros(first, np.float32), POSE: np.zeros((first, 4), np.float32)}
    arrays[VALID] = np.ones((first, len(MODALITIES)), np.float32)
    found = [Trajectory(str(number), ((0, Path(f"{number}.h5")),)) for number in range(len(lengths))]
    return samples_of(found, MODALITIES, chunks, arrays)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_start_up_is_not_what_is_held_out(seed):
    training, unseen = split_by_trajectory(trajectories([31, 400, 420, 380]), 0.3, seed)
    assert 0.2 < len(unseen) / (len(training) + len(unseen)) < 0.4
    assert not set(training.held) & set(unseen.held)


@pytest.mark.parametrize("seed", range(20))
def test_both_parts_have_every_modality_where_that_is_possible(seed):
    lacking = {0: "touch", 1: "touch", 2: "touch", 3: "touch"}
    training, unseen = split_by_trajectory(trajectories([100] * 7, lacking), 0.3, seed)
    assert training.available.any(axis=0).all() and unseen.available.any(axis=0).all()


def test_a_modality_of_one_trajectory_is_trained_on():
    for seed in range(20):
        training, _ = split_by_trajectory(trajectories([100] * 4, {0: "touch", 1: "touch", 2: "touch"}), 0.3, seed)
        assert training.available.any(axis=0).all()


def test_trajectories_of_one_length_are_chosen_by_the_seed_alone():
    chosen = {split_by_trajectory(trajectories([50] * 10), 0.3, seed)[1].held for seed in range(20)}
    assert len(chosen) > 10 and all(len(names) == 3 for names in chosen)
    # As earlier versions chose: what a run held out stays held out.
    order = np.random.default_rng(4).permutation(10)[:3]
    assert split_by_trajectory(trajectories([50] * 10), 0.3, 4)[1].held == tuple(map(str, sorted(order)))


@given(
    lengths=st.lists(st.integers(10, 300), min_size=1, max_size=4),
    held_out=st.floats(0.1, 0.5),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_blocks_of_time_keep_a_margin_and_lose_nothing_else(lengths, held_out, seed):
    samples = trajectories(lengths)
    training, unseen = split_by_time(samples, held_out, seed)
    assert not set(training.rows) & set(unseen.rows)
    kept = set(training.rows) | set(unseen.rows)
    for number, length in enumerate(lengths):
        margin = max(1, round(0.01 * length))
        steps = {s: r for s, r, t in zip(samples.step, samples.rows, samples.trajectory) if t == number}
        trained = training.step[training.trajectory == number]
        held = unseen.step[unseen.trajectory == number]
        assert len(held) == 0 or len(trained) == 0 or np.abs(trained[:, None] - held[None]).min() > margin
        for step in (s for s, row in steps.items() if row not in kept):
            assert np.abs(held - step).min() <= margin


def test_a_single_trajectory_is_split_by_blocks_of_time():
    training, unseen = split_by_trajectory(trajectories([200]), 0.3, 0)
    assert len(unseen) == 60 and 120 < len(training) < 140
    assert (np.diff(np.flatnonzero(np.diff(np.sort(unseen.step)) > 1)) % 20 == 0).all()


def test_too_short_a_trajectory_is_named():
    with pytest.raises(LogError, match="0: expected at least 10 steps to hold out a block of time, found 9"):
        split_by_trajectory(trajectories([9]), 0.3, 0)
