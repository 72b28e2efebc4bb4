"""Pictures that were seen beside pictures that were predicted, as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

TILE = 112
"""Pixels of one picture's side."""
_GAP, _HEAD = 6, 56
_INK, _PAPER, _ALERT = (40, 40, 40), (250, 250, 250), (200, 30, 30)
# Few colours keep minutes of pictures below 3 MB.
_COLOURS = 128


def frame(title: str, alert: bool, pictures: Sequence[tuple[str, np.ndarray | None]], note: str = "") -> np.ndarray:
    """Return one frame: a title and a note over labelled pictures, side by side.

    Args:
        title: what the sensors do at this moment.
        alert: whether a sensor fails; the title is red then.
        pictures: label and uint8 (H, W, 3) RGB; None for a sensor that brings nothing.
        note: a second line.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    width = len(pictures) * (TILE + _GAP) + _GAP
    canvas = np.full((_HEAD + TILE + _GAP, width, 3), _PAPER, np.uint8)
    _write(canvas, title, (_GAP, 16), 0.5, _ALERT if alert else _INK)
    _write(canvas, note, (_GAP, 32), 0.38, _INK)
    for place, (label, picture) in enumerate(pictures):
        left = _GAP + place * (TILE + _GAP)
        _write(canvas, label, (left, _HEAD - 6), 0.38, _INK)
        tile = canvas[_HEAD : _HEAD + TILE, left : left + TILE]
        if picture is None:
            tile[:] = 215
            _write(tile, "nothing", (TILE // 2 - 28, TILE // 2 + 4), 0.45, _INK)
        else:
            tile[:] = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return canvas


def write_gif(path: Path, frames: Sequence[np.ndarray], rate: float) -> None:
    """Write frames, uint8 (H, W, 3) RGB, at `rate` a second as a GIF that repeats."""
    whole = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)]))
    # One palette for all, or the colours would flicker from frame to frame.
    palette = whole.quantize(_COLOURS)
    first, *rest = (Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in frames)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate), loop=0, optimize=True)


def write_mp4(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    """Write frames, uint8 (H, W, 3) RGB, at `rate` a second as MP4 (H.264)."""
    import av

    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for one in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(one[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _write(canvas: np.ndarray, text: str, at: tuple[int, int], scale: float, ink: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
