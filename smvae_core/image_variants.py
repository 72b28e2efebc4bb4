"""Variants of a picture ("looks"), from which §4.3 of the SMVAE paper makes six modalities.

A modality whose source is `image.<look>` is computed from the key `image` when data are read. On a robot nothing is
computed: a dirty lens gives the occluded look by itself.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from smvae_core.preprocessing import Array

# Canny's two thresholds on the gradient of a grey byte image; the paper names the detector, not its settings.
_WEAK, _STRONG = 50, 150
_WATERMARK_OPACITY = 0.6


def grey(picture: Array) -> Array:
    """Return the luma, (S, S, 1)."""
    luma: Array = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return luma[..., None]


def edges(picture: Array) -> Array:
    """Return Canny edges (S, S, 1), 255 on an edge and 0 elsewhere."""
    smooth = cv2.GaussianBlur(grey(picture), (0, 0), 1.0)
    return cv2.Canny(smooth, _WEAK, _STRONG)[..., None]


def occluded(picture: Array) -> Array:
    """Return the picture with its right half black, (S, S, 3)."""
    covered: Array = picture.copy()
    covered[:, covered.shape[1] // 2 :] = 0
    return covered


def watermarked(picture: Array) -> Array:
    """Return the picture under white letters, the same on every picture of a size, (S, S, 3)."""
    opacity = _watermark(picture.shape[0])
    return np.rint(picture * (1.0 - opacity) + 255.0 * opacity).astype(np.uint8)


LOOKS: dict[str, Callable[[Array], Array]] = {
    "grey": grey,
    "edges": edges,
    "occluded": occluded,
    "watermarked": watermarked,
}
"""The looks by name, each a function from uint8 RGB (S, S, 3) to uint8 (S, S, C)."""


def origin(source: str) -> str:
    """Return the key that a source is read from: the part before `.<look>`, if there is one."""
    key, _, look = source.rpartition(".")
    return key if look in LOOKS else source


def looked_at(source: str, pictures: Array, size: int) -> Array:
    """Convert pictures to the look that a source names.

    Args:
        source: a plain key, whose pictures are returned as they are, or `image.<look>`.
        pictures: (T, H, W, 3), uint8, of any size.
        size: side S of the model's picture. A look is computed at that size; resized later, thin edges would fade.

    Returns:
        (T, S, S, C), uint8, for a look.
    """
    look = source.rpartition(".")[2]
    if look not in LOOKS:
        return pictures
    return np.stack([LOOKS[look](_resized(picture, size)) for picture in pictures])


def _resized(picture: Array, size: int) -> Array:
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


@cache
def _watermark(size: int) -> Array:
    opacity: Array = np.zeros((size, size), np.float32)
    for line in (0.35, 0.6, 0.85):
        at = (round(0.03 * size), round(line * size))
        cv2.putText(
            opacity, "SAMPLE", at, cv2.FONT_HERSHEY_SIMPLEX, size / 120.0, (1.0,), max(1, size // 64), cv2.LINE_AA
        )
    return (_WATERMARK_OPACITY * opacity)[..., None]
