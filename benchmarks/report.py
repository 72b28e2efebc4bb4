"""RESULTS.md: one section for each benchmark, replaced by its latest run."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "RESULTS.md"


class Goal(NamedTuple):
    """One row of a section's table.

    Attributes:
        what: is measured.
        measured: the figure.
        goal: that it is to reach.
        met: whether it does.
        limit: what the machine, or another's program in the same run, can do; a dash where nothing says so.
    """

    what: str
    measured: str
    goal: str
    met: bool
    limit: str = "–"


def report(title: str, command: str, how: str, lines: Sequence[Goal], results: Path = RESULTS) -> None:
    """Print a section and write it to the results, in place of an earlier one of the same title.

    Args:
        title: heading of the section.
        command: the command that measures it again.
        how: what was measured, in a few sentences.
        lines: rows of the table.
        results: file to write to.
    """
    rows = [
        f"| {one.what} | {one.measured} | {one.goal} | {one.limit} | {'yes' if one.met else '**no**'} |"
        for one in lines
    ]
    text = "\n".join(
        [
            f"## {title}",
            "",
            f"`{command}`, {date.today()}, {machine()}",
            "",
            how,
            "",
            "| | measured | goal | limit | met |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    write_section(title, text, results)


def write_section(title: str, text: str, results: Path = RESULTS) -> None:
    """Print a section and write it to the results, in place of an earlier one of the same title.

    Args:
        title: heading of the section.
        text: Markdown that begins with the heading `## <title>` and ends with a line break.
        results: file to write to.
    """
    print(text)
    before = (
        results.read_text() if results.exists() else "# Benchmark results\n\nEach section is written by its script.\n"
    )
    section = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    after, replaced = section.subn(lambda _: text + "\n", before)
    if not replaced:
        after = f"{before.rstrip()}\n\n{text}"
    results.write_text(after.rstrip() + "\n")


def machine() -> str:
    # Imported here, because the reading processes of `caching` import this file and must not load torch.
    import torch

    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())):
        model = found[1]
    load = os.getloadavg()[0]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    torch_version = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    return f"{len(os.sched_getaffinity(0))} cores of {model}{gpu}, load {load:.1f}, {torch_version}"
