"""Predicted depth images to point clouds."""

from collections.abc import Sequence
from math import inf

import cv2
import numpy as np

from smvae_core.errors import SMVAEError


class CalibrationError(SMVAEError):
    """A CameraInfo that cannot be used: it has no size or no focal length."""


_FISHEYE = "equidistant"
_MODELS = ("plumb_bob", "rational_polynomial", _FISHEYE)


def points_from_depth(
    depth: np.ndarray, width: int, height: int, k: np.ndarray, d: Sequence[float] = (), model: str = ""
) -> np.ndarray:
    """Back-project a depth image through a camera.

    Args:
        depth: float32 (h, w), metres, of any size; 0 means that there is no reading.
        width: pixels per row of the images that `k` belongs to.
        height: rows of the images that `k` belongs to.
        k: nine numbers, the row-major intrinsic matrix of sensor_msgs/CameraInfo.
        d: its distortion.
        model: its distortion_model.

    Returns:
        float32 (N, 3): x right, y down, z forward in metres, one point for each reading, row by row.

    Raises:
        CalibrationError: the size or a focal length is not positive, the distortion model is unknown, or the points
            would not be finite.
    """
    fx, cx, fy, cy = (float(k[i]) for i in (0, 2, 4, 5))
    found = f"found {width}x{height}, fx {fx}, fy {fy}, cx {cx}, cy {cy}"
    if width <= 0 or height <= 0 or not 0.0 < fx < inf or not 0.0 < fy < inf:
        raise CalibrationError(f"expected a CameraInfo with width, height and finite fx and fy above 0, {found}")
    rows, columns = np.nonzero(depth > 0.0)
    z = depth[rows, columns]
    # Pixel centres are at whole numbers in CameraInfo, so resizing scales (u + 1/2), not u.
    u = (columns + 0.5) * (width / depth.shape[1]) - 0.5
    v = (rows + 0.5) * (height / depth.shape[0]) - 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        # Without coefficients, too, an equidistant camera is no pinhole camera.
        if any(d) or model == _FISHEYE:
            x, y = _undistorted(u, v, np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), d, model)
        else:
            x, y = (u - cx) / fx, (v - cy) / fy
        points = np.stack([x * z, y * z, z], axis=1).astype(np.float32)
    if not np.isfinite(points).all():
        raise CalibrationError(f"expected a CameraInfo that gives finite points, {found}")
    return points


def _undistorted(
    u: np.ndarray, v: np.ndarray, k: np.ndarray, d: Sequence[float], model: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return x / z and y / z of the rays through pixels."""
    if model not in _MODELS:
        raise CalibrationError(
            f"expected a CameraInfo with the distortion_model {', '.join(_MODELS[:-1])} or {_MODELS[-1]}, found "
            f"'{model[:60]}', whose points nobody knows"
        )
    if not len(u):
        return u, v
    pixels, numbers = np.stack([u, v], axis=1)[:, None], np.array([*d] or [0.0] * 4, np.float64)
    undistort = cv2.fisheye.undistortPoints if model == _FISHEYE else cv2.undistortPoints
    try:
        rays = undistort(pixels, k, numbers)[:, 0]
    except cv2.error as error:
        raise CalibrationError(f"expected a CameraInfo whose distortion OpenCV can undo, found: {error.err}") from None
    return rays[:, 0], rays[:, 1]
