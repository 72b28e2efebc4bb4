"""The table of an experiment in which sensors go off: errors by the time since, one column for each row."""

import statistics
from collections.abc import Sequence

from smvae_core.evaluation.outages import Outages
from smvae_core.reproduce.results import SystemResult
from smvae_core.reproduce.tables import by_row, spread, table


def sections(results: Sequence[SystemResult]) -> list[str]:
    """Return paragraphs of markdown."""
    measured = [result for result in results if result.outages is not None]
    if not measured:
        return [
            "Errors while the cameras are off: not measured, since no held-out trajectory has the 7 s without a gap "
            "that it takes."
        ]
    first = measured[0].outages
    assert first is not None
    grouped = [(name, [r.outages for r in of if r.outages is not None]) for name, of in by_row(measured)]
    lines = [["all modalities", "nothing is off", *(spread([_healthy(x) for x in of], ".3f") for _, of in grouped)]]
    for name in first.off:
        for age, seconds in enumerate(first.ages):
            figures = (spread([found.best.nmse[name][age] for found in of], ".3f") for _, of in grouped)
            lines.append([name, f"{seconds:g} s", *figures])
    lines.append(["z², mean over ages", "", *(spread([_z2(found) for found in of], ".2f") for _, of in grouped)])
    off = " + ".join(first.off)
    return [
        f"NMSE while {off} is off, by the time since it was there last, on {first.starts} outages of held-out "
        "trajectories. Rows with memory predict with it, the others from what is left of the set alone.",
        table(["NMSE of", "off for", *(name for name, _ in grouped)], lines),
    ]


def _healthy(found: Outages) -> float | None:
    """Return the mean NMSE over modalities and moments with nothing off, with memory if there is one."""
    values = [x for errors in found.healthy.nmse.values() for x in errors if x is not None]
    return statistics.fmean(values) if values else None


def _z2(found: Outages) -> float | None:
    return statistics.fmean(found.best.z2) if found.best.z2 else None
