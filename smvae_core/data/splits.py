"""Splits of samples into a training part and a held-out part."""

import numpy as np

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples


def split_by_trajectory(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out whole trajectories.

    Args:
        held_out: fraction of the trajectories to hold out.

    Raises:
        LogError: a part would be empty.
    """
    present = np.unique(samples.trajectory)
    order = present[np.random.default_rng(seed).permutation(len(present))]
    count = round(held_out * len(present))
    if not 0 < count < len(present):
        raise LogError(
            f"expected enough trajectories to hold out {held_out:.0%} of them, found {len(present)}; "
            "record more or change data.held_out"
        )
    unseen = np.isin(samples.trajectory, order[:count])
    return samples.select(np.flatnonzero(~unseen)), samples.select(np.flatnonzero(unseen))


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


SPLITS = {"trajectory": split_by_trajectory, "paper": split_by_sample, "given": split_as_given}
"""The splits by the name that a configuration gives them."""
