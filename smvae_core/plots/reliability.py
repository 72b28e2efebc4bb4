"""Reliability curves: the part of the entries inside the predicted intervals, against the level that was predicted."""

from pathlib import Path

from smvae_core.calibration import Calibration, SubsetCalibration
from smvae_core.plots.sheets import curves


def reliability(path: Path, calibration: Calibration) -> None:
    """Write a PNG with a panel for each modality: one line for each subset that holds one modality, and one for all.

    A calibrated model lies on the diagonal; below it, intervals are too narrow.
    """
    rows = shown_subsets(calibration)
    names = dict.fromkeys(name for row in rows for name in row.coverage)
    levels = [0.0, *calibration.levels, 1.0]
    panels = {
        name: {"calibrated": (levels, levels)}
        | {
            "from " + " + ".join(row.subset): (levels, [0.0, *row.coverage[name], 1.0])
            for row in rows
            if name in row.coverage
        }
        for name in names
    }
    if panels:
        curves(path, panels, "predicted part of the entries inside")


def shown_subsets(calibration: Calibration) -> list[SubsetCalibration]:
    """Return the rows to draw: the largest subset that was measured, and those of one modality."""
    measured = [row for row in calibration.subsets if row.samples]
    largest = max((len(row.subset) for row in measured), default=0)
    return [row for row in measured if len(row.subset) in (1, largest)]
