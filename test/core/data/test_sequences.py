"""Sequences for the training of memory: real time, real order, outages that last."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from smvae_core.configuration import Configuration
from smvae_core.data.samples import Samples
from smvae_core.data.sequences import SequenceConfiguration, runs_of, windows_of_an_epoch
from smvae_core.modality import vision_touch_modalities
from smvae_core.model.memory import MemoryConfiguration

MEMORY = MemoryConfiguration(spacing=0.05, horizon=10.0)
STEPS, TRAJECTORIES = 300, 6
BATCH = 64


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Six trajectories of 300 steps; the last has a gap in time in its middle. Shuffled, as a split may give them."""
    count = STEPS * TRAJECTORIES
    step = np.tile(np.arange(STEPS), TRAJECTORIES)
    previous = np.arange(count) - 1
    previous[::STEPS] = -1
    previous[-150] = -1
    available = np.ones((count, 4), bool)
    available[step == STEPS - 1, 3] = False
    whole = Samples(
        modalities=vision_touch_modalities(),
        arrays={},
        rows=np.arange(count),
        following=np.arange(count),
        previous=previous,
        available=available,
        contact=np.zeros(count, np.float32),
        pose=np.zeros((count, 4), np.float32),
        trajectory=np.repeat(np.arange(TRAJECTORIES), STEPS),
        step=step,
        names=tuple(map(str, range(TRAJECTORIES))),
    )
    return whole.select(np.random.default_rng(0).permutation(count))


def lanes(x: np.ndarray) -> np.ndarray:
    """(steps, B, T, …) as one row of samples for each lane."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def test_windows_of_a_lane_follow_trajectories_in_real_time(samples):
    found = windows_of_an_epoch(samples, SequenceConfiguration(), MEMORY, BATCH, (0, 0))
    assert found.index.shape[1:] == (4, 16) and found.index.size >= len(samples)
    index, elapsed = lanes(found.index), lanes(found.elapsed)
    same = np.isfinite(elapsed[:, 1:])
    before, after = index[:, :-1], index[:, 1:]
    assert (samples.trajectory[before] == samples.trajectory[after])[same].all()
    np.testing.assert_allclose(
        elapsed[:, 1:][same], 0.05 * (samples.step[after] - samples.step[before])[same], rtol=1e-5
    )
    assert (elapsed[:, 1:][same] > 0).all()
    assert np.isinf(elapsed[:, 0]).all()


def test_spacings_are_those_of_the_strides_with_jitter_and_some_long_gaps(samples):
    found = windows_of_an_epoch(samples, SequenceConfiguration(strides=(4,)), MEMORY, BATCH, (0, 0))
    steps = np.round(found.elapsed[np.isfinite(found.elapsed)] / 0.05).astype(int)
    shares = {n: float(np.mean(steps == n)) for n in (3, 4, 5)}
    assert shares[4] > 0.7 and 0.05 < shares[3] < 0.15 and 0.05 < shares[5] < 0.15
    assert steps.max() > 20


def test_a_gap_in_time_is_never_crossed(samples):
    runs = runs_of(samples)
    assert sorted(map(len, runs)) == [150, 150, *[STEPS] * (TRAJECTORIES - 1)]
    for run in runs:
        assert (np.diff(samples.step[run]) == 1).all() and len(set(samples.trajectory[run])) == 1
    thinned = samples.select(np.flatnonzero(samples.step % 100 != 50))
    assert max(map(len, runs_of(thinned))) == 99


def test_what_is_dropped_is_dropped_in_bursts_and_never_added(samples):
    settings = SequenceConfiguration(strides=(1,), between_outages=1.0)
    found = windows_of_an_epoch(samples, settings, MEMORY, BATCH, (0, 0))
    given = lanes(found.given)
    assert not (given & ~samples.available[lanes(found.index)]).any()
    # All images off for at least half a second: random drops alone do that once in 10^20 times.
    off = ~given[:, :, :2].any(axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(off, 10, axis=1).all(axis=2)
    assert 0.05 < windows.mean() < 0.9
    never = windows_of_an_epoch(samples, replace_settings(settings, longest_outage=0.0), MEMORY, BATCH, (0, 0))
    share = lanes(never.given)[:, :, :3].mean()
    assert abs(share - 0.95) < 0.02


def replace_settings(settings: SequenceConfiguration, **changes) -> SequenceConfiguration:
    return SequenceConfiguration.model_validate(settings.model_dump() | changes)


def test_memory_knows_nothing_at_the_start_and_after_a_long_gap(samples):
    short = MemoryConfiguration(spacing=0.05, horizon=0.15)
    found = windows_of_an_epoch(samples, SequenceConfiguration(strides=(1, 4)), short, BATCH, (0, 0))
    elapsed, given, remembered = (lanes(x) for x in (found.elapsed, found.given, found.remembered))
    assert not remembered[elapsed > 0.15].any()
    for lane in range(len(elapsed)):
        present = False
        for t in range(elapsed.shape[1]):
            present = present and elapsed[lane, t] <= 0.15
            assert remembered[lane, t] == present
            present = present or given[lane, t].any()


def test_a_share_of_the_windows_is_without_memory(samples):
    for share in (0.0, 0.2, 1.0):
        found = windows_of_an_epoch(samples, SequenceConfiguration(length=2, absent=share), MEMORY, BATCH, (0, 0))
        assert abs(found.absent.mean() - share) < 0.05


def test_the_same_key_draws_the_same_and_another_epoch_another(samples):
    def drawn(*key: int) -> np.ndarray:
        return windows_of_an_epoch(samples, SequenceConfiguration(), MEMORY, BATCH, key).given

    np.testing.assert_array_equal(drawn(3, 1), drawn(3, 1))
    assert not np.array_equal(drawn(3, 1), drawn(3, 2))


def test_a_trajectory_that_is_shorter_than_a_window_is_used_too(samples):
    short = samples.select(np.flatnonzero(samples.step < 5))
    found = windows_of_an_epoch(short, SequenceConfiguration(), MEMORY, 16, (0, 0))
    assert set(found.index.ravel()) <= set(range(len(short)))
    assert np.isinf(found.elapsed).sum() > 4


def test_samples_that_do_not_follow_each_other_are_refused():
    for section, message in (({"most": 100}, "data.most none"), ({"split": "paper"}, "found 'paper'")):
        with pytest.raises(ValidationError, match=message):
            Configuration.model_validate({"model": {"memory": {}}, "data": section})
        Configuration.model_validate({"data": section})


def test_data_without_images_have_outages_too(samples):
    numbers = replace(samples, modalities=samples.modalities[2:], available=samples.available[:, 2:])
    found = windows_of_an_epoch(numbers, SequenceConfiguration(), MEMORY, BATCH, (0, 0))
    assert found.given.shape[-1] == 2 and 0.2 < found.given.mean() < 0.9


def test_an_earlier_sample_is_in_the_window_and_the_time_since_is_the_sum_of_the_steps(samples):
    found = windows_of_an_epoch(samples, SequenceConfiguration(), MEMORY, BATCH, (0, 0))
    length = found.index.shape[2]
    elapsed, earlier, since = (x.reshape(-1, length) for x in (found.elapsed, found.earlier, found.since))
    assert np.isinf(elapsed).any(axis=1).any()
    for row, times in enumerate(elapsed):
        for t, first in enumerate(earlier[row]):
            assert 0 <= first <= t
            np.testing.assert_allclose(since[row, t], times[first : t + 1].sum(), rtol=1e-4)
    back = np.arange(length) - earlier
    # The state just before, as it is met in operation, most often; but far jumps too.
    assert 0.2 < (back[:, -1] == 0).mean() < 0.5 and (back[:, -1] > length // 2).mean() > 0.1
