"""The report of a replay: one HTML file that needs nothing else and loads nothing from anywhere.

>>> write_report(Path("results"))           # reads summary.json, sets.parquet, pictures.npz and timing.json
PosixPath('results/report.html')
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from smvae_ros.report.page import page
from smvae_ros.report.results import ReportError, read_results

__all__ = ["ReportError", "write_report"]

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of one bag's results beside them; the same results give the same bytes.

    Raises:
        ReportError: the results cannot be read, or the page cannot be written.
    """
    text = page(read_results(folder))
    path = folder / NAME
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report.") as part:
            (Path(part) / NAME).write_text(text, encoding="utf-8")
            os.replace(Path(part) / NAME, path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from None
    return path
