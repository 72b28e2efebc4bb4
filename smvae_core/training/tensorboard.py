"""The event files that TensorBoard shows of a run: one point an epoch, and a sheet of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from smvae_core.calibration import Calibration
from smvae_core.scores import with_old_names


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


def epoch_scalars(line: dict[str, Any]) -> dict[str, float]:
    """Return the scalars of one line of the metrics by tag."""
    scalars = {f"training/{name}": value for name, value in line["training"].items()}
    scalars |= {key: line[key] for key in ("learning_rate", "samples_per_second", "score")}
    for row in line["held_out"]:
        scalars |= {
            f"held_out/{name} from {'+'.join(row['subset'])}": nmse
            for name, nmse in with_old_names(row)["nmse"].items()
        }
    return scalars


def calibration_scalars(calibration: Calibration) -> dict[str, float]:
    """Return the scalars of a calibration by tag."""
    scalars: dict[str, float] = {}
    for row in calibration.subsets:
        given = "+".join(row.subset)
        scalars |= {f"calibration/z2 of {given}": row.z2} if row.z2 is not None else {}
        scalars |= {f"calibration/KL of {given}": row.kl} if row.samples else {}
        for name, inside in calibration.coverage(row, 0.9).items():
            scalars[f"calibration/90 % of {name} from {given}"] = inside
    return scalars
