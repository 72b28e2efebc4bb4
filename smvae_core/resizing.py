"""Images made smaller by area: each new pixel is the mean of the part of the image that it covers.

OpenCV does the same. Where the sizes have no whole ratio, as 480 rows and 64, it weights every pixel, which takes three
times as long. Here whole rows are added first, and only the rows between two new ones are weighted.
"""

from math import gcd
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Smaller images are not worth the number of calls, and neither are more new rows to a group.
_LEAST_SIZE, _MOST_ROWS = 100_000, 8
# So many rows of bytes, and no more, have a sum that fits into two bytes.
_MOST_ADDED = 257


def resized(image: NDArray[Any], size: int) -> NDArray[Any]:
    """Return an image (H, W) or (H, W, C), uint8 or float32, as (size, size) or (size, size, C) of its type.

    Bytes are rounded. Those half way between two may be rounded otherwise than by OpenCV.
    """
    height, width = image.shape[:2]
    is_whole = height % size == 0 and width % size == 0
    is_small = image.size < _LEAST_SIZE or min(height, width) < size
    if is_whole or is_small or size // gcd(height, size) > _MOST_ROWS:
        return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    sums = _sums_of_rows(image, size)
    mean: NDArray[Any] = np.asarray(cv2.resize(sums, (size, size), interpolation=cv2.INTER_AREA))
    mean *= np.float32(gcd(height, size) / height)
    return np.rint(mean).astype(np.uint8) if image.dtype == np.uint8 else mean


def _sums_of_rows(image: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Return the sums of the rows under each new row, (size, W) or (size, W, C).

    A whole row counts as often as a group of rows has new ones, so that the parts of a row are whole numbers.
    """
    groups = gcd(image.shape[0], size)
    old, new = image.shape[0] // groups, size // groups
    rows = image.reshape(groups, old, -1)
    dtype: Any = np.uint16 if image.dtype == np.uint8 and old <= _MOST_ADDED else np.float32
    sums = np.empty((groups, new, rows.shape[2]), np.float32)
    for n in range(new):
        # In parts of a row: from n * old to (n + 1) * old, a whole row being `new`.
        first, last = -(-n * old // new), (n + 1) * old // new
        total = np.add.reduce(rows[:, first:last], axis=1, dtype=dtype)
        total *= dtype(new)
        for row, part in ((first - 1, first * new - n * old), (last, (n + 1) * old - last * new)):
            if part:
                total += rows[:, row] * dtype(part)
        sums[:, n] = total
    return sums.reshape(size, *image.shape[1:])
