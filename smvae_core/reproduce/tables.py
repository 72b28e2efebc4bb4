"""Helpers of all tables: results by row, mean and spread over seeds, markdown."""

import statistics
from collections.abc import Iterable, Sequence

from smvae_core.reproduce.results import SystemResult


def by_row(results: Iterable[SystemResult]) -> list[tuple[str, list[SystemResult]]]:
    """Return the names of the rows, in order, with the results of all their seeds."""
    found: dict[str, list[SystemResult]] = {}
    for result in results:
        found.setdefault(result.row, []).append(result)
    return list(found.items())


def spread(values: Sequence[float | None], shown: str) -> str:
    """Return the mean, and the standard deviation where there are several values; a dash for none."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = format(statistics.fmean(known), shown)
    return mean if len(known) == 1 else f"{mean} ± {format(statistics.stdev(known), shown)}"


def spread_told(results: Sequence[SystemResult]) -> str:
    """Return what `spread` shows, in a sentence; empty with one seed."""
    seeds = len({result.seed for result in results})
    return f"Mean and standard deviation over {seeds} seeds." if seeds > 1 else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
