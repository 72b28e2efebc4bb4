"""A training part and a held-out part of the samples."""

import numpy as np

from smvae_core.data.formats.vision_touch import LogError
from smvae_core.data.samples import Samples


def split_by_trajectory(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """No trajectory is in both parts.

    Args:
        held_out: share of trajectories.

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
    """The data set's own split: what is of its part `test` is held out, whatever the share and the seed.

    Raises:
        LogError: there is no such part, or no other.
    """
    unseen = np.array(samples.names)[samples.trajectory] == "test"
    if not unseen.any() or unseen.all():
        raise LogError(f"expected data with a part 'test' and others, found {', '.join(samples.held)}")
    return samples.select(np.flatnonzero(~unseen)), samples.select(np.flatnonzero(unseen))


def split_by_sample(samples: Samples, held_out: float, seed: int) -> tuple[Samples, Samples]:
    """The split of the papers: single steps are held out, whose neighbours in time stand in the training part.

    Args:
        held_out: share of samples.

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
"""By the name that the configuration gives them."""
