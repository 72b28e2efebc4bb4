"""The report's tables, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from smvae_core.scores import Evaluation
from smvae_ros.report.findings import outages, silences
from smvae_ros.report.results import Results
from smvae_ros.report.words import clock, duration, percent

LISTED = 12
"""Most outages that are listed."""


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "", caption: str = "", text: Sequence[int] = (0,)
) -> str:
    """Return a table as HTML from cells as HTML. `text`: columns of words, which are aligned to the left."""

    def kind(column: int) -> str:
        return ' class="text"' if column in text else ""

    heading = "".join(f'<th scope="col"{kind(i)}>{cell}</th>' for i, cell in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="{classes}">{title}<thead><tr>{heading}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return a plain table of names (text) and values (HTML)."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<div class="scroll"><table class="plain"><tbody>{body}</tbody></table></div>'


def errors_table(evaluation: Evaluation, names: Sequence[str]) -> str:
    """Return a sortable table of NMSE with a row for each subset; italics where the modality was not given."""
    body = []
    for number, row in enumerate(evaluation.subsets):
        cells = [f'<th scope="row" class="text" data-value="{number}">{escape(" + ".join(row.subset))}</th>']
        cells.append(f'<td data-value="{row.samples}">{row.samples:,}</td>')
        for name in names:
            cells.append(nmse_cell(row.nmse.get(name), given=name in row.subset))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return sortable_table(["Predicted from", "Sets", *names], body, "errors-table")


def nmse_cell(nmse: float | None, given: bool = True) -> str:
    """Return a cell whose colour tells a normalised error; a dash where there is none."""
    if nmse is None:
        return "<td>–</td>"
    kinds = "heat" + ("" if given else " unseen") + (" lost" if nmse >= 1 else "")
    return f'<td class="{kinds}" style="--nmse:{nmse:.3f}" data-value="{nmse:.6g}">{percent(nmse)}</td>'


def sortable_table(head: Sequence[str], rows: Sequence[str], name: str, text: Sequence[int] = (0,)) -> str:
    """Return a table with buttons for headings, which sort the rows by the `data-value` of their cells.

    Args:
        head: headings as text.
        rows: rows as HTML.
        name: id of the table.
        text: columns of words, as in `table`.
    """
    heading = "".join(
        f'<th scope="col" aria-sort="none"{" class=text" if i in text else ""}>'
        f'<button type="button">{escape(word)}</button></th>'
        for i, word in enumerate(head)
    )
    return (
        f'<div class="scroll"><table class="sortable" id="{name}"><thead><tr>{heading}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def outage_table(results: Results) -> str:
    """Return the longest outages, or a sentence if there was none."""
    found = [(o.name, o.start, o.end, f"{o.sets:,}") for o in outages(results.sets)]
    found += [("no set at all", start, end, "0") for start, end in silences(results.sets)]
    found.sort(key=lambda row: row[1] - row[2])
    if not found:
        return "<p>Every set had every modality.</p>"
    rows = [
        [escape(name), clock(start), clock(end), duration(end - start), sets]
        for name, start, end, sets in found[:LISTED]
    ]
    more = f'<p class="note">{len(found) - LISTED:,} shorter ones are not listed.</p>' if len(found) > LISTED else ""
    return "<h3>Longest outages</h3>" + table(["Out", "From", "To", "For", "Sets"], rows) + more


def sets_tables(results: Results) -> str:
    """Return the sets by reason and by subset, and what became of each stream's messages."""
    summary = results.summary
    reasons = {
        "complete": "nothing more could come",
        "deadline": "the longest wait was over",
        "tick": "the reference was silent, so the clock opened it",
        "overflow": "too many sets waited",
    }
    by_reason = [
        [escape(reason), f"{count:,}", percent(count / max(summary.sets, 1)), reasons.get(reason, "")]
        for reason, count in summary.sets_by_reason.items()
    ]
    by_subset = [
        [escape(subset.replace("+", " + ")) or "nothing", f"{count:,}", percent(count / max(summary.sets, 1))]
        for subset, count in summary.sets_by_subset.items()
    ]
    streams = []
    for name, stream in summary.streams.items():
        dropped = ", ".join(f"{count:,} {escape(reason)}" for reason, count in stream.dropped.items() if count)
        late = f"{1000 * stream.lag_s[0]:.1f} to {1000 * stream.lag_s[1]:.1f}" if stream.lag_s else "–"
        wrong = f"{stream.rejected:,}" + (f": {escape(stream.rejected_because)}" if stream.rejected_because else "")
        streams.append(
            [escape(name), f"<code>{escape(stream.topic)}</code>"]
            + [f"{n:,}" for n in (stream.recorded, stream.received, stream.used, stream.sets)]
            + [dropped or "none", late, wrong]
        )
    head = [
        "Modality",
        "Topic",
        "Recorded",
        "Let through",
        "Used",
        "In sets",
        "Dropped",
        "Received after stamp (ms)",
        "Unusable",
    ]
    return (
        "<h3>Why sets went out</h3>"
        + table(["Reason", "Sets", "Share", "Meaning"], by_reason, "reasons", text=(0, 3))
        + "<h3>What sets held</h3>"
        + table(["Modalities", "Sets", "Share"], by_subset)
        + "<h3>What became of the messages</h3>"
        + table(head, streams, text=(0, 1, 6, 7, 8))
        + f'<p class="note">Ticks without any sample: {summary.empty_ticks:,}. '
        f"Jumps of the clock: {summary.resets:,}.</p>"
    )


def latency_table(results: Results) -> str:
    """Return quantiles of waits, spreads and ages, and the time that the engine took."""
    sets = results.sets
    rows = [_quantiles("Wait of a set", sets.wait_ms), _quantiles("Spread of a set's samples", sets.spread_ms)]
    rows += [_quantiles(f"Age of {name} against the set's stamp", ages) for name, ages in sets.age_ms.items()]
    text = table(["In milliseconds", "Median", "90 %", "99 %", "Most"], rows)
    timing = results.timing
    if timing:
        text += (
            f"<p>One set through the engine, everything predicted, one thread: "
            f"{1000 * timing.inference_median_s:.1f} ms "
            f"(median), {1000 * timing.inference_p99_s:.1f} ms (99 % of {timing.inference_sets:,} sets), on "
            f"{escape(results.summary.device)}. The replay took {duration(timing.wall_seconds)}, "
            f"{timing.bag_seconds_per_wall_second:.1f} times as fast as it was recorded.</p>"
        )
    return text


def _quantiles(name: str, values: np.ndarray) -> list[str]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [escape(name), *["–"] * 4]
    return [escape(name), *(f"{q:.1f}" for q in np.quantile(finite, [0.5, 0.9, 0.99, 1.0]))]
