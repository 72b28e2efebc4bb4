"""The index page, which leads to the reports of several bags."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from smvae_ros.replay.summary import BagResult, ReplaysSummary
from smvae_ros.report.alerts import faults
from smvae_ros.report.tables import errors_table, nmse_cell, pairs, sortable_table
from smvae_ros.report.templates import framed
from smvae_ros.report.words import percent


def index(summary: ReplaysSummary, report: str) -> str:
    """Return the page as HTML.

    Args:
        report: file name of the report in each bag's folder.
    """
    names = list(summary.evaluation.subsets[0].subset) if summary.evaluation else []
    good = [bag for bag in summary.bags if bag.evaluation is not None]
    bad = [(bag.bag, bag.error or "") for bag in summary.bags if bag.evaluation is None]
    lead = f"{summary.sets:,} sets of {len(good)} bags, judged with {summary.checkpoint}" + (
        f"; {len(bad)} could not be replayed" if bad else ""
    )
    rows = [_row(number, bag, names, report) for number, bag in enumerate(good)]
    head = ["Bag", "Sets", *names, "Whole sets", "Notes"]
    return framed(
        "index.html",
        title=f"Replay of {len(summary.bags)} bags",
        ending="this page loads nothing from anywhere; its links need the folders beside it.",
        scripts=["sorting.js"],
        lead=escape(lead),
        alerts=faults(summary.what_if),
        bags=sortable_table(head, rows, "bags-table", text=(0, len(head) - 1)),
        bad=f"<h3>Could not be replayed</h3>{pairs([(n, escape(error)) for n, error in bad])}" if bad else "",
        errors=errors_table(summary.evaluation, names) if summary.evaluation else "<p>No bag could be replayed.</p>",
    )


def _row(number: int, bag: BagResult, names: list[str], report: str) -> str:
    name = escape(bag.bag)
    assert bag.evaluation is not None and bag.folder is not None
    whole = next((row for row in bag.evaluation.subsets if set(row.subset) == set(names)), None)
    found = whole.nmse if whole else {}
    full = whole.samples / max(bag.sets, 1) if whole else 0.0
    link = quote(f"{bag.folder}/{report}")
    return (
        f'<tr><th scope="row" class="text" data-value="{number}"><a href="{link}">{name}</a></th>'
        f'<td data-value="{bag.sets}">{bag.sets:,}</td>{"".join(nmse_cell(found.get(n)) for n in names)}'
        f'<td data-value="{full}">{percent(full)}</td><td class="text">{escape("; ".join(bag.damage))}</td></tr>'
    )
