"""The subsets from which a replay predicts.

Of more than six modalities these are a few, since each modality doubles the number of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from smvae_core.modality import Modality
from smvae_core.subsets import MOST_MODALITIES, Subset, few_subsets, judged_subsets


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


def _blind(modalities: Sequence[Modality]) -> Subset:
    return tuple(modality.name for modality in modalities if not modality.is_image)
