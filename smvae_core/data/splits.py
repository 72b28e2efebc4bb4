"""Splits of samples into a training part and a held-out part."""

import numpy as np

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.subsets import evenly


def at_most(samples: Samples, most: int | None) -> Samples:
    """Return at most `most` samples, evenly spaced; all if it is None."""
    return samples if most is None else samples.select(evenly(len(samples), most))


# Blocks that a trajectory is cut into, and the steps between a held-out block and training, as a fraction of the
# trajectory: neighbours in time are nearly the same.
_BLOCKS, _MARGIN = 10, 0.01
_LEAST_STEPS = 10
# A random choice stands if its number of steps is so close to the wanted one; otherwise others are tried.
_TOLERANCE, _TRIES = 0.25, 200


def split_by_trajectory(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out whole trajectories; of a single trajectory, blocks of time.

    The choice is random, but both parts get every modality if that is possible, and the held-out part about the wanted
    number of steps.

    Args:
        held_out: fraction of the steps to hold out.

    Raises:
        LogError: a part would be empty.
    """
    present = np.unique(samples.trajectory)
    if len(present) == 1:
        return split_by_time(samples, held_out, seed)
    if not 0 < round(held_out * len(present)) < len(present):
        raise LogError(
            f"expected enough trajectories to hold out {held_out:.0%} of them, found {len(present)}; "
            "record more, change data.held_out, or set data.split to time"
        )
    unit = np.searchsorted(present, samples.trajectory)
    unseen = _chosen(unit, samples.available, held_out, seed)[unit]
    return samples.select(np.flatnonzero(~unseen)), samples.select(np.flatnonzero(unseen))


def split_by_time(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out blocks of time of every trajectory.

    Steps next to a held-out block are in neither part, 1 % of the trajectory on each side, and at least one.

    Args:
        held_out: fraction of the steps to hold out.

    Raises:
        LogError: a trajectory is too short to be cut.
    """
    block, margin = np.zeros(len(samples), int), np.zeros(len(samples), int)
    first = 0
    for number in np.unique(samples.trajectory):
        own = np.flatnonzero(samples.trajectory == number)
        if len(own) < _LEAST_STEPS:
            raise LogError(
                f"{samples.names[number]}: expected at least {_LEAST_STEPS} steps to hold out a block of time, "
                f"found {len(own)}; record more"
            )
        count = min(_BLOCKS, len(own) // 5)
        # In order of time, whatever the order of the samples.
        order = own[np.argsort(samples.step[own], kind="stable")]
        block[order] = first + np.arange(len(own)) * count // len(own)
        first += count
        margin[own] = max(1, round(_MARGIN * len(own)))
    unseen = _chosen(block, samples.available, held_out, seed)[block]
    return samples.select(np.flatnonzero(~unseen & ~_near(samples, unseen, margin))), samples.select(
        np.flatnonzero(unseen)
    )


def split_as_given(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out the part `test` of the data set; `held_out` and `seed` have no effect.

    Raises:
        LogError: the data set has no part `test`, or no other part.
    """
    unseen = np.array(samples.names)[samples.trajectory] == "test"
    if not unseen.any() or unseen.all():
        raise LogError(f"expected data with a part 'test' and others, found {', '.join(samples.held)}")
    return samples.select(np.flatnonzero(~unseen)), samples.select(np.flatnonzero(unseen))


def split_by_sample(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out single steps, as the papers do. Their neighbours in time are in the training part.

    Args:
        held_out: fraction of the samples to hold out.

    Raises:
        LogError: a part would be empty.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    count = round(held_out * len(samples))
    if not 0 < count < len(samples):
        raise LogError(
            f"expected enough samples to hold out {held_out:.0%} of them, found {len(samples)}; "
            "record more or change data.held_out"
        )
    return samples.select(np.sort(order[count:])), samples.select(np.sort(order[:count]))


def calibration_and_test(unseen: Samples) -> tuple[Samples, Samples, str]:
    """Cut the held-out samples into a part that choices and fits may use, and a part for the figures.

    Returns:
        The calibration part, the test part, and how they were cut: `trajectory`, or `time` where there is one
        trajectory only, whose first half is the calibration part.
    """
    if len(unseen.held) > 1:
        return *split_by_trajectory(unseen, 0.5, seed=0), "trajectory"
    middle = len(unseen) // 2
    return unseen.select(np.arange(middle)), unseen.select(np.arange(middle, len(unseen))), "time"


SPLITS = {
    "trajectory": split_by_trajectory,
    "time": split_by_time,
    "paper": split_by_sample,
    "given": split_as_given,
}
"""The splits by the name that a configuration gives them."""


def _chosen(unit: np.ndarray, available: np.ndarray, held_out: float, seed: int) -> np.ndarray:
    """Choose the units (trajectories or blocks) to hold out.

    Args:
        unit: the number of each sample's unit, (N,); every number from 0 on occurs.
        available: (N, M), bool.

    Returns:
        (units,), bool.
    """
    steps = np.bincount(unit)
    has = np.zeros((len(steps), available.shape[1]), bool)
    np.logical_or.at(has, unit, available)
    wanted = held_out * steps.sum()
    random = np.random.default_rng(seed)
    count = min(max(round(held_out * len(steps)), 1), len(steps) - 1)

    def held(units: np.ndarray) -> np.ndarray:
        chosen = np.zeros(len(steps), bool)
        chosen[units] = True
        return chosen

    def shortcoming(chosen: np.ndarray) -> tuple[int, int, float]:
        """Return what a choice lacks: modalities to train on, modalities to judge, steps."""
        everywhere = has.any(axis=0)
        untrained, unjudged = (int((everywhere & ~has[part].any(axis=0)).sum()) for part in (~chosen, chosen))
        off = abs(float(steps[chosen].sum()) - wanted)
        return untrained, unjudged, 0.0 if off <= _TOLERANCE * wanted else off

    best = held(random.permutation(len(steps))[:count])
    for _ in range(_TRIES):
        if shortcoming(best) == (0, 0, 0.0):
            break
        order = random.permutation(len(steps))
        until = 1 + int(np.argmin(np.abs(np.cumsum(steps[order])[:-1] - wanted)))
        best = min(best, held(order[:until]), key=shortcoming)
    return best


def _near(samples: Samples, unseen: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Return which samples are at most `margin` steps from a held-out sample of their trajectory, (N,), bool."""
    near = np.zeros(len(samples), bool)
    for number in np.unique(samples.trajectory):
        own = samples.trajectory == number
        steps, held = samples.step[own], np.sort(samples.step[own & unseen])
        if not len(held):
            continue
        after = np.searchsorted(held, steps).clip(0, len(held) - 1)
        before = (after - 1).clip(0)
        distance = np.minimum(np.abs(held[after] - steps), np.abs(held[before] - steps))
        near[own] = distance <= margin[own]
    return near
