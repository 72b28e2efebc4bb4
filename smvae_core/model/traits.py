"""Traits of raw samples: plain numbers that an embedding smooths away, such as how noisy a picture is in its corners.

Embeddings are trained to predict the other modalities, so they keep little of noise, offsets and resolution. Trust
sees both. Traits cost a fraction of a millisecond, and nothing is learned in them.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from smvae_core.modality import Modality

_CELLS = 4
"""Cells of a picture along each side."""
_FLOOR = {"image": 4e-3, "sequence": 1e-3}
"""What counts as no roughness, in model units: one step of a byte, and the noise of a fine sensor."""


def trait_count(modalities: Sequence[Modality]) -> int:
    """Return the largest number of traits of a modality."""
    return max(_count(modality) for modality in modalities)


def traits_of(modalities: Sequence[Modality], batch: Mapping[str, Tensor], rows: int) -> Tensor:
    """Return the traits of samples, (B, M, F), zeros where a modality is not in the batch or has fewer.

    Args:
        modalities: in the order of the columns.
        batch: by name, (B, *shape), model units, on the processor.
        rows: B.
    """
    traits = torch.zeros(rows, len(modalities), trait_count(modalities))
    for column, modality in enumerate(modalities):
        if modality.name in batch:
            found = traits_of_one(modality, batch[modality.name])
            traits[:, column, : found.shape[1]] = found
    return traits


def traits_of_one(modality: Modality, x: Tensor) -> Tensor:
    """Return the traits of samples (B, *shape) of one modality.

    Of a picture: the mean and the roughness of each cell of a grid, by channel. Of a sequence: by channel its mean,
    its ends, and the logarithms of spread and roughness. Of a vector: its entries. Roughness is the logarithm of the
    mean absolute second difference.
    """
    if modality.is_image:
        return torch.cat([_cells(x), _log(_cells(_second_differences(x).abs()), "image")], dim=1)
    if x.dim() == 3:
        changes = _changes(x)
        rough = _changes(changes).abs().mean(dim=-1) if x.shape[-1] > 2 else torch.zeros_like(x[..., 0])
        spread = x.std(dim=-1, correction=0)
        parts = [x.mean(dim=-1), x[..., 0], x[..., -1], _log(spread, "sequence"), _log(rough, "sequence")]
        return torch.cat(parts, dim=1)
    return x.flatten(start_dim=1)


def is_expressible(modality: Modality) -> bool:
    """Return whether ONNX can express the traits of a modality: of a picture, if it has whole cells."""
    return not modality.is_image or not any(side % _CELLS for side in modality.shape[1:])


def _count(modality: Modality) -> int:
    if modality.is_image:
        return 2 * modality.shape[0] * _CELLS**2
    return 5 * modality.shape[0] if len(modality.shape) == 2 else modality.shape[0]


def _cells(x: Tensor) -> Tensor:
    height, width = map(int, x.shape[-2:])
    if height % _CELLS or width % _CELLS:
        return F.adaptive_avg_pool2d(x, _CELLS).flatten(start_dim=1)
    # The same, which ONNX can express, too.
    return F.avg_pool2d(x, (height // _CELLS, width // _CELLS)).flatten(start_dim=1)


def _second_differences(x: Tensor) -> Tensor:
    """Return how far each pixel lies from the mean of its four neighbours; the edge is repeated."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return x - 0.25 * across


def _changes(x: Tensor) -> Tensor:
    """Return what `x.diff()` returns, which ONNX cannot express."""
    return x[..., 1:] - x[..., :-1]


def _log(x: Tensor, kind: str) -> Tensor:
    return (x + _FLOOR[kind]).log()
