"""The report's section on calibration: z², coverage, and a reliability curve for each modality, as HTML."""

from __future__ import annotations

from html import escape

from smvae_core.calibration import Calibration, SubsetCalibration
from smvae_core.plots.reliability import shown_subsets
from smvae_ros.report.tables import sortable_table
from smvae_ros.report.words import percent

_SIDE, _LEFT, _LOW = 150, 34, 22


def calibration_section(calibration: Calibration | None) -> str:
    """Return the curves and the table; one sentence where the checkpoint has no calibration."""
    if calibration is None:
        return (
            "<p>This checkpoint has no calibration: nobody measured how far its σ and its intervals can be trusted. "
            "<code>smvae evaluate</code> measures it on logs.</p>"
        )
    rows = shown_subsets(calibration)
    names = dict.fromkeys(name for row in calibration.subsets for name in row.coverage)
    note = (
        f"Of the checkpoint, on held-out data of its training, not on this bag: {calibration.origin}. z² is 1 where σ "
        f"is right, above 1 where it is too small. {calibration.active} of {calibration.latent} dimensions of the "
        "latent are active. On the diagonal of a curve, intervals cover the part that they should; below it, they are "
        "too narrow."
    )
    panels = "".join(_panel(calibration, name, rows) for name in names)
    curves = f'<div class="reliability">{panels}</div>{_legend(rows)}'
    return f'<p class="note">{note}</p>{curves}{_table(calibration, list(names))}'


def _panel(calibration: Calibration, name: str, rows: list[SubsetCalibration]) -> str:
    lines = [f'<line class="rule" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for number, row in enumerate(rows):
        if name in row.coverage:
            points = zip((0.0, *calibration.levels, 1.0), (0.0, *row.coverage[name], 1.0))
            path = " ".join(f"{_x(level):.1f},{_y(inside):.1f}" for level, inside in points)
            lines.append(f'<polyline class="line c{number % 7}" points="{path}"/>')
    ticks = "".join(
        f'<text x="{_x(level)}" y="{_SIDE + 16}" text-anchor="middle">{percent(level)}</text>'
        f'<text x="{_LEFT - 4}" y="{_y(level) + 4}" text-anchor="end">{percent(level)}</text>'
        for level in (0.5, 0.9)
    )
    label = escape(f"Reliability of {name}: part of the entries inside, against the predicted part")
    width = _SIDE + _LEFT + 6
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg role="img" aria-label="{label}" width="{width}" '
        f'viewBox="0 0 {width} {_SIDE + _LOW}">{"".join(lines)}{ticks}</svg></figure>'
    )


def _legend(rows: list[SubsetCalibration]) -> str:
    entries = (
        f'<span><svg aria-hidden="true"><line class="line c{number % 7}" x1="0" y1="5" x2="18" y2="5"/></svg>'
        f" from {escape(' + '.join(row.subset))}</span>"
        for number, row in enumerate(rows)
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def _table(calibration: Calibration, names: list[str]) -> str:
    body = []
    for number, row in enumerate(calibration.subsets):
        cells = [f'<th scope="row" class="text" data-value="{number}">{escape(" + ".join(row.subset))}</th>']
        cells.append("<td>–</td>" if row.z2 is None else f'<td data-value="{row.z2}">{row.z2:.2f}</td>')
        cells.append(f'<td data-value="{row.kl}">{row.kl:.1f}</td>')
        inside = calibration.coverage(row, 0.9)
        cells += [
            f'<td data-value="{inside[name]}">{percent(inside[name])}</td>' if name in inside else "<td>–</td>"
            for name in names
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    head = ["Posterior of", "z²", "KL, nats", *(f"{name} inside 90 %" for name in names)]
    return sortable_table(head, body, "calibration-table")


def _x(part: float) -> float:
    return _LEFT + part * _SIDE


def _y(part: float) -> float:
    return 4 + (1.0 - part) * (_SIDE - 4)
