"""Predicted depth images to point clouds."""

from math import inf

import numpy as np

from smvae_core.errors import SMVAEError


class CalibrationError(SMVAEError):
    """A CameraInfo that cannot be used: it has no size or no focal length."""


def points_from_depth(depth: np.ndarray, width: int, height: int, k: np.ndarray) -> np.ndarray:
    """Back-project a depth image through a pinhole camera.

    Args:
        depth: float32 (h, w), metres, of any size; 0 means that there is no reading.
        width: pixels per row of the images that `k` belongs to.
        height: rows of the images that `k` belongs to.
        k: nine numbers, the row-major intrinsic matrix of sensor_msgs/CameraInfo.

    Returns:
        float32 (N, 3): x right, y down, z forward in metres, one point for each reading, row by row.

    Raises:
        CalibrationError: the size or a focal length is not positive, or the points would not be finite.
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
        points = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=1).astype(np.float32)
    if not np.isfinite(points).all():
        raise CalibrationError(f"expected a CameraInfo that gives finite points, {found}")
    return points
