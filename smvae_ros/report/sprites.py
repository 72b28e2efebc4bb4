"""The pictures of the moments as sprite sheets in data URIs."""

from __future__ import annotations

import base64
import math
from typing import Any

import cv2
import matplotlib
import numpy as np

from smvae_core.plots.sheets import depth_picture, depth_range
from smvae_ros.report.results import Pictures

_QUALITY = 88


def picture_strips(pictures: Pictures, touch: bool) -> dict[str, Any]:
    """Return for pictures.js the sheets of each image modality: recorded, predicted and uncertainty.

    Args:
        touch: whether the modalities that are left without vision feel forces.
    """
    columns = math.ceil(math.sqrt(len(pictures.seconds)))
    strips = []
    for name, seen in pictures.seen.items():
        limits = depth_range(seen) if seen.ndim == 3 else None
        predicted, spread = pictures.predicted[name], pictures.uncertainty[name]
        most = max((float(np.percentile(images, 99)) for images in spread.values()), default=0.0)
        strips.append(
            {
                "name": name,
                "width": seen.shape[2],
                "height": seen.shape[1],
                "near_far": limits,
                "most_uncertain": most,
                "recorded": pictures.recorded[name].tolist(),
                "seen": _sheet(_coloured(seen, limits), columns),
                "predicted": {key: _sheet(_coloured(images, limits), columns) for key, images in predicted.items()},
                "uncertainty": {
                    key: _sheet(_heat(images / max(most, 1e-12)), columns) for key, images in spread.items()
                },
            }
        )
    return {
        "seconds": [round(float(second), 3) for second in pictures.seconds],
        "columns": columns,
        "shown": [{"key": key, "title": _title(key, touch), "used": pictures.used[key]} for key in pictures.shown],
        "strips": strips,
    }


def _title(key: str, touch: bool) -> str:
    if key == "all":
        return "from all there was"
    return "by touch alone" if key == "without_vision" and touch else key.replace("_", " ")


def _coloured(images: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    if limits is None:
        return images
    near, far = limits
    # 0 is no reading; so is a prediction up to half the distance of the nearest surface.
    return np.stack([depth_picture(np.where(metres < near / 2, 0.0, metres), near, far) for metres in images])


def _heat(level: np.ndarray) -> np.ndarray:
    colours: np.ndarray = matplotlib.colormaps["cividis"](np.clip(level, 0.0, 1.0))
    return (colours[..., :3] * 255).astype(np.uint8)


def _sheet(images: np.ndarray, columns: int) -> str:
    """Return (K, H, W, 3) uint8 laid out in rows of `columns` images, as a WebP data URI."""
    moments, height, width, _ = images.shape
    rows = -(-moments // columns)
    filled = np.zeros((rows * columns, height, width, 3), np.uint8)
    filled[:moments] = images
    sheet = filled.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    _, encoded = cv2.imencode(".webp", sheet[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
