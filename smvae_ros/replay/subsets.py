"""The subsets from which a replay predicts, and the sets whose images it predicts from all of them.

Of more than six modalities these are a few, since each modality doubles the number of all. Images take nearly all of
the time, and those of sets that follow each other tell nearly the same. So only some sets have theirs predicted from
every subset; every set has them predicted from all that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from smvae_core.modality import Modality
from smvae_core.subsets import MOST_MODALITIES, Subset, few_subsets, judged_subsets
from smvae_ros.synchronizer.sample_set import SampleSet

_SHORT_S = 30.0
_RATE = 5.0


def replayed_subsets(modalities: Sequence[Modality]) -> list[Subset]:
    """Return the subsets with a column and a row of their own, largest first.

    They are those of `judged_subsets`, and all modalities but the cameras.
    """
    subsets = [*judged_subsets([modality.name for modality in modalities]), _blind(modalities)]
    return sorted(dict.fromkeys(filter(None, subsets)), key=len, reverse=True)


def subsets_of_set(modalities: Sequence[Modality], held: Subset) -> list[Subset]:
    """Return the subsets that a set is judged by, the whole set first; none for an empty set.

    They are those of `replayed_subsets` that the set holds. Of a model of more than six modalities, the whole set, all
    of it but one modality, and all but the cameras come on top.
    """
    subsets = [subset for subset in replayed_subsets(modalities) if set(subset) <= set(held)]
    if len(modalities) > MOST_MODALITIES:
        subsets += [*few_subsets(held), _blind([modality for modality in modalities if modality.name in held])]
    return sorted(dict.fromkeys(filter(None, subsets)), key=len, reverse=True)


def usual_rate(seconds: float | None) -> float:
    """Return how many sets a second have their images predicted from every subset: all of a short bag, or 5.

    Args:
        seconds: length of the bag; None where it does not tell.
    """
    return _RATE if seconds is not None and seconds > _SHORT_S else 0.0


class SubsetRate:
    """Chooses the sets whose images are predicted from every subset: the first of each period, by their stamps.

    So the same moments are chosen whatever faults a replay adds.

    Args:
        rate: sets a second; 0 takes every set.
    """

    def __init__(self, rate: float) -> None:
        self._period_ns = 1e9 / rate if rate else 0.0
        self._last: tuple[int, int] | None = None

    def takes(self, sample_set: SampleSet) -> bool:
        """Return whether the set is one of them. Sets come in the order in which they went out."""
        if not self._period_ns:
            return True
        period = sample_set.epoch, int(sample_set.stamp_ns // self._period_ns)
        taken = period != self._last
        self._last = period
        return taken


def _blind(modalities: Sequence[Modality]) -> Subset:
    return tuple(modality.name for modality in modalities if not modality.is_image)
