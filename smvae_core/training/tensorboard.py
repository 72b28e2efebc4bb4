"""The event files that TensorBoard shows of a run: one point an epoch, and a sheet of pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes the event files of a run.

    Args:
        folder: of the event files.
        epoch: finished epochs; points of later ones, which a killed run left, are dropped.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=epoch + 1 if epoch else None)

    def write(self, epoch: int, scalars: Mapping[str, float], pictures: np.ndarray | None) -> None:
        """Write one epoch: scalars by tag, and a picture sheet (H, W, 3), uint8.

        Raises:
            OSError: the disk is full.
        """
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch)
        if pictures is not None:
            self._writer.add_image("predictions", pictures, epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write nothing more."""
        self._writer.close()
