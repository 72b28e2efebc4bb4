"""The report's section on trust: over time, when a fault was noticed, and what it cost with and without `drop`."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from smvae_ros.replay.summary import Fault
from smvae_ros.report.findings import Doubt, doubts, dropped, noticed
from smvae_ros.report.results import Results
from smvae_ros.report.series import Spans
from smvae_ros.report.tables import table
from smvae_ros.report.words import clock, percent


def trust_section(results: Results) -> str:
    """Return the chart's place and the table of faults; one sentence where the checkpoint cannot tell."""
    if not results.sets.distrusted:
        return (
            "<p>The checkpoint has no trust, so that sensors that lie are not noticed. <code>smvae trust</code> adds "
            "it.</p>"
        )
    return (
        '<p class="note">1 is full trust. A modality is distrusted once its trust falls to 0.5, the dotted line, and '
        "until it is trusted almost fully again. Each set adds evidence, so a fault takes some sets to be noticed.</p>"
        '<p class="legend" id="trust-legend"></p><figure class="chart" id="trust-chart"></figure>'
        f"{_table(results)}"
    )


def trust_over_time(results: Results, spans: Spans) -> list[dict[str, Any]]:
    """Return a lane of the chart for each modality that can be judged."""
    found = doubts(results)
    lanes = []
    for name, trust in results.sets.trust.items():
        own = [doubt for doubt in found if doubt.name == name]
        least = float(np.nanmin(trust)) if np.isfinite(trust).any() else 1.0
        lanes.append(
            {
                "name": name,
                "words": f"at least {least:.2f}",
                "trust": spans.means(trust),
                "distrusted": [[doubt.start, doubt.end] for doubt in own],
                "faults": [
                    [fault.start, fault.end] for fault in results.summary.what_if.faults if fault.modality == name
                ],
            }
        )
    return lanes


def _table(results: Results) -> str:
    """Return a row for each time of distrust, and one for each fault that was not noticed."""
    found = doubts(results)
    faults = [fault for fault in results.summary.what_if.faults if fault.modality in results.sets.distrusted]
    rows: list[tuple[float, list[str]]] = []
    reasons: dict[Doubt, Fault] = {}
    for fault in faults:
        first = noticed(fault, found)
        if first is None:
            nothing = [escape(fault.modality), _told(fault), "never", "–", "–", "–", "–"]
            rows.append((fault.start, nothing))
        else:
            reasons[first] = fault
    for doubt in found:
        reason = reasons.get(doubt)
        after = f"{doubt.start - reason.start:.2f} s" if reason else "–"
        what = _told(reason) if reason else "nothing was put on it"
        time = f"{clock(doubt.start)} – {clock(doubt.end)}"
        here = "left the sets" if dropped(doubt.name, results) else "stayed in the sets"
        both = [name for name in doubt.with_it if name in doubt.without_it]
        costs = [", ".join(f"{escape(name)} {percent(cost[name])}" for name in both) or "–"
                 for cost in (doubt.with_it, doubt.without_it)]  # fmt: skip
        rows.append((doubt.start, [escape(doubt.name), what, after, time, here, *costs]))
    if not rows:
        return "<p>No modality was distrusted.</p>"
    head = ["Modality", "Fault", "Noticed after", "Distrusted", "It", "Error of the others with it", "and without it"]
    return (
        '<p class="note">Errors are NMSE, means over the sets of that time: as with it in the sets, and without it as '
        "under <code>distrust: drop</code>.</p>"
        + table(head, [cells for _, cells in sorted(rows, key=lambda row: row[0])], text=range(len(head)))
    )


def _told(fault: Fault) -> str:
    return escape(f"{fault.kind} {fault.interval}")
