"""RVL, the compression of depth in `compressedDepth`.

Wilson, "Fast Lossless Depth Image Compression", ISS 2017; rvl_codec.cpp of compressed_depth_image_transport. The pixels
are runs of zeros and of other values in turn: the length of both, then for each value its difference from the value
before it. Each of these numbers is a row of nibbles with three bits each, the lowest first, whose highest bit says
whether another follows.
"""

from __future__ import annotations

from struct import error, unpack_from

import numpy as np

from smvae_ros.conversions.errors import ConversionError

# Three bits each: more than any difference of 16 bits or length of a run needs.
_MOST_NIBBLES = 11


def decoded_rvl(data: bytes, most_pixels: int) -> np.ndarray:
    """Decode width, height and RVL to uint16 (H, W).

    Raises:
        ConversionError: not whole, inconsistent, or more than `most_pixels`.
    """
    try:
        width, height = unpack_from("<II", data)
    except error:
        raise ConversionError(f"expected RVL with a width and a height, found {len(data)} bytes") from None
    if not 0 < width * height <= most_pixels:
        raise ConversionError(f"expected an image of 1 to {most_pixels} pixels, found {width} × {height}")
    numbers = _numbers(np.frombuffer(data, "<u4", len(data) // 4 - 2, 8))
    pixels = np.zeros(width * height, np.int64)
    places, differences = [], []
    done = at = 0
    while done < len(pixels):
        if at + 2 > len(numbers):
            raise _damaged(width, height, data)
        zeros, others = int(numbers[at]), int(numbers[at + 1])
        done += zeros
        end = at + 2 + others
        if done + others > len(pixels) or end > len(numbers) or not zeros + others:
            raise _damaged(width, height, data)
        places.append(np.arange(done, done + others))
        differences.append(numbers[at + 2 : end])
        done, at = done + others, end
    found = np.concatenate(differences)
    # Signs stand in the lowest bit.
    pixels[np.concatenate(places)] = np.cumsum((found >> 1) ^ -(found & 1))
    return pixels.astype(np.uint16).reshape(height, width)


def _numbers(words: np.ndarray) -> np.ndarray:
    """Return all complete numbers in the nibbles of the words, the highest nibble of a word first."""
    nibbles: np.ndarray = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).astype(np.int64).ravel()
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        return ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_NIBBLES:
        raise ConversionError(f"expected RVL numbers of at most {_MOST_NIBBLES} nibbles, found {lengths.max()}")
    whole = nibbles[: ends[-1] + 1]
    shifts = 3 * (np.arange(len(whole)) - np.repeat(starts, lengths))
    return np.add.reduceat((whole & 7) << shifts, starts)


def _damaged(width: int, height: int, data: bytes) -> ConversionError:
    return ConversionError(f"expected whole RVL of {width} × {height} pixels, found {len(data)} damaged bytes")
