"""Vision&Touch logs of full size, filled with noise: 50 steps a file, 20 files a trajectory."""

from pathlib import Path

import h5py
import numpy as np

STEPS, PARTS = 50, 20


def write_logs(folder: Path, files: int) -> Path:
    """Write what is not there yet; a file has the keys that are read, uncompressed, and no optical flow."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(files):
        path = folder / f"20190408_183047_triangle_0_journal_{number // PARTS}_{number % PARTS}_1000.h5"
        if path.exists():
            continue
        part = path.with_suffix(".part")
        with h5py.File(part, "w") as file:
            file["image"] = random.integers(0, 256, (STEPS, 128, 128, 3), dtype=np.uint8)
            file["depth_data"] = random.uniform(0.5, 2.1, (STEPS, 128, 128, 1)).astype(np.float32)
            file["ee_forces_continuous"] = random.normal(0, 3, (STEPS, 50, 6))
            file["action"] = random.normal(0, 0.01, (STEPS, 4))
            file["proprio"] = random.normal(0, 1, (STEPS, 8))
            file["contact"] = random.integers(0, 2, (STEPS, 50)).astype(np.float64)
        part.rename(path)
    return folder
