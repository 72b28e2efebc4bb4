"""Write the report of a replay: one HTML file that needs nothing else and loads nothing from anywhere.

>>> write_report(Path("results"))           # reads summary.json, sets.parquet, pictures.npz and timing.json
PosixPath('results/report.html')
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from smvae_ros.replay.summary import ReplaysSummary
from smvae_ros.report.index import index
from smvae_ros.report.page import page
from smvae_ros.report.results import ReportError, read_results, read_summary

NAME = "report.html"
INDEX = "index.html"


def write_report(folder: Path) -> Path:
    """Write the report beside the results of one bag; the same results give the same bytes.

    Raises:
        ReportError: the results cannot be read, or the page cannot be written.
    """
    return _write(folder / NAME, page(read_results(folder)))


def write_index(folder: Path) -> Path:
    """Write the page that leads to the reports of several bags, beside the summary.json of all of them.

    Raises:
        ReportError: that summary cannot be read, or the page cannot be written.
    """
    return _write(folder / INDEX, index(read_summary(folder / "summary.json", ReplaysSummary), NAME))


def _write(path: Path, text: str) -> Path:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".report.") as part:
            (Path(part) / path.name).write_text(text, encoding="utf-8")
            os.replace(Path(part) / path.name, path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from None
    return path
