"""The report's page, put together from templates, words and numbers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from html import escape
from typing import Any

import numpy as np

from smvae_core.subsets import Subset
from smvae_ros.report.alerts import alert, faults
from smvae_ros.report.calibration import calibration_section
from smvae_ros.report.findings import findings, silences, trivial_errors
from smvae_ros.report.latent import PERPLEXITY, latent_plane
from smvae_ros.report.memory import memory_section
from smvae_ros.report.results import SET, Results
from smvae_ros.report.series import Spans, standing
from smvae_ros.report.sprites import picture_strips
from smvae_ros.report.tables import errors_table, latency_table, outage_table, pairs, sets_tables
from smvae_ros.report.templates import framed
from smvae_ros.report.trust import trust_over_time, trust_section
from smvae_ros.report.words import FAIR, GOOD, duration, percent

_SCRIPTS = ("view.js", "chart.js", "modalities.js", "trust.js", "latent.js", "pictures.js", "sorting.js", "page.js")

_CHANNELS = {
    6: ("x force (N)", "y force (N)", "z force (N)", "x torque (N·m)", "y torque (N·m)", "z torque (N·m)"),
    4: ("linear x", "linear y", "linear z", "angular z"),
}

_WAIT_BINS = 40


def page(results: Results) -> str:
    """Return the whole page as HTML."""
    summary, data = results.summary, _data(results)
    begin = datetime.fromtimestamp(summary.extent.begin_ns / 1e9, timezone.utc)
    lead = (
        f"{duration(summary.extent.seconds)} recorded from {begin:%Y-%m-%d %H:%M:%S} UTC, "
        f"{' + '.join(results.names)}, judged with {summary.checkpoint}"
    )
    sections = {"summary": "Summary", "availability": "Availability", "pictures": "Pictures", "errors": "Errors"}
    sections |= {"calibration": "Calibration"}
    sections |= {f"section-{name}": name.capitalize() for name in results.sets.seen}
    sections |= {
        "latent": "Latent",
        "attention": "Attention",
        "trust": "Trust",
        "memory": "Memory",
        "sets": "Sets",
        "latency": "Latency",
    }
    sections |= {"provenance": "Provenance"}
    return framed(
        "page.html",
        title=summary.bag,
        ending="this page loads nothing from anywhere: it can be sent as it is.",
        scripts=_SCRIPTS,
        data=data,
        lead=escape(lead),
        links="".join(f'<li><a href="#{key}">{escape(word)}</a></li>' for key, word in sections.items()),
        alerts=_alerts(results),
        tiles=_tiles(results),
        findings=_findings(results),
        verdicts=(
            f"By the normalised error (NMSE) of the worst modality: "
            f"good up to {percent(GOOD)}, fair up to {percent(FAIR)}, weak below 100 %, bad from there on. Without the "
            "camera: by the case without any camera."
        ),
        outages=outage_table(results),
        pictures=_pictures(results),
        calibration=calibration_section(results.summary.calibration),
        images_note=_images_note(results),
        errors_table=errors_table(results.summary.evaluation, results.names),
        compare="".join(_choice(subset, results) for subset in _subsets(results)),
        vectors="".join(_vector_section(name) for name in results.sets.seen),
        latent_note=_latent_note(results, sum(data["latent"]["pca"]["explained"])),
        trust=trust_section(results),
        memory=memory_section(results),
        sets=sets_tables(results),
        latency=latency_table(results),
        provenance=_provenance(results),
    )


def _data(results: Results) -> dict[str, Any]:
    sets = results.sets
    # Neither holds Python's interpreter for long, and they take nearly all of the time.
    with ThreadPoolExecutor(1) as thread:
        pictures = results.pictures
        strips = thread.submit(picture_strips, pictures, results.force is not None) if pictures else None
        latent = latent_plane(sets, results.force)
    spans = Spans(sets.seconds)
    trivial = trivial_errors(results)
    subsets = ["+".join(subset) for subset in _subsets(results)]
    return {
        "begin": 0.0,
        "end": max(results.summary.extent.seconds, float(sets.seconds[-1]), 1e-3),
        "spans": spans.seconds,
        "jumps": sets.jumps,
        "gaps": silences(sets),
        "modalities": [
            {
                "name": name,
                "share": percent(float(np.mean(present))),
                "attention_share": percent(float(np.nanmean(sets.attention[name]))),
                "present": spans.means(present.astype(float)),
                "attention": spans.means(sets.attention[name]),
            }
            for name, present in sets.present.items()
        ],
        "attention_of_memory": _attention_of_memory(results, spans),
        "trust": trust_over_time(results, spans),
        "errors": {
            name: {
                "trivial": trivial.get(name),
                "series": {key: spans.series(_errors(results, name, key)) for key in (SET, *subsets)},
            }
            for name in results.names
        },
        "vectors": [
            {
                "name": name,
                "channels": [
                    {
                        "title": title,
                        "seen": spans.series(seen[:, i]),
                        "predicted": spans.series(sets.predicted[name][:, i]),
                        "without": spans.series(sets.without[name][:, i]),
                    }
                    for i, title in enumerate(_channels(results, name))
                ],
            }
            for name, seen in sets.seen.items()
        ],
        "latent": latent,
        "pictures": strips.result() if strips else None,
        "waits": _waits(results),
    }


def _attention_of_memory(results: Results, spans: Spans) -> dict[str, Any] | None:
    weight = results.sets.attention_of_memory
    if not np.any(weight > 0.0):
        return None
    return {"share": percent(float(np.nanmean(weight))), "attention": spans.means(weight)}


def _waits(results: Results) -> dict[str, Any]:
    deadline = 1000 * results.summary.settings.max_wait
    most = max(float(results.sets.wait_ms.max()), 1.0)
    # The few sets that waited longer than allowed are counted in the last bar.
    end = min(most, 2 * deadline) if deadline else most
    counts, _ = np.histogram(np.clip(results.sets.wait_ms, 0, end), bins=_WAIT_BINS, range=(0, end))
    return {"bins": _WAIT_BINS, "width_ms": end / _WAIT_BINS, "counts": counts.tolist(), "deadline_ms": deadline}


def _channels(results: Results, name: str) -> list[str]:
    width = results.sets.seen[name].shape[1]
    known = _CHANNELS.get(width, ())
    if known and (width != 6 or name == results.force):
        return list(known)
    return [f"{name} {i}" for i in range(width)]


def _images_note(results: Results) -> str:
    rate = results.summary.subset_rate
    return f", images over {rate:g} of them a second" if rate else ""


def _errors(results: Results, name: str, key: str) -> np.ndarray:
    """Return the errors of a modality predicted from a subset, one for each set of a chart.

    Images are predicted from every subset in some sets only; the error of such a set stands until the next of them.
    """
    sets, rate = results.sets, results.summary.subset_rate
    errors = sets.errors[name][key]
    if key == SET or name not in results.cameras or not rate:
        return errors
    held = np.logical_and.reduce([sets.present[other] for other in key.split("+")])
    return standing(errors, held & np.isfinite(sets.errors[name][SET]), sets.seconds, 2.0 / rate)


def _subsets(results: Results) -> list[Subset]:
    """Return the subsets whose errors the table has for each set."""
    columns = set[str]().union(*results.sets.errors.values())
    return [row.subset for row in results.summary.evaluation.subsets if "+".join(row.subset) in columns]


def _choice(subset: Subset, results: Results) -> str:
    blind = [name for name in results.names if name not in results.cameras]
    chosen = " selected" if list(subset) == (blind or results.names) else ""
    return f'<option value="{escape("+".join(subset))}"{chosen}>{escape(" + ".join(subset))}</option>'


def _alerts(results: Results) -> str:
    summary = results.summary
    alerts = []
    extent = summary.extent
    if not extent.whole:
        length = f" of {duration(extent.recorded_seconds)}" if extent.recorded_seconds else ""
        title = f"The bag is damaged: this report covers the {duration(extent.seconds)}{length} that could be read."
        alerts.append(alert(title, extent.damage))
    alerts.append(faults(summary.what_if))
    if summary.warnings:
        alerts.append(alert("What to know of this bag:", summary.warnings))
    return "".join(alerts)


def _tiles(results: Results) -> str:
    summary, sets = results.summary, results.sets
    whole = float(np.mean(np.all(list(sets.present.values()), axis=0)))
    tiles = [
        (duration(summary.extent.seconds), "of the bag"),
        (f"{summary.sets:,}", f"sets, {summary.sets / max(summary.extent.seconds, 1e-3):.1f} a second"),
        (percent(whole), "of them with every modality"),
        (f"{np.quantile(sets.wait_ms, 0.99):.0f} ms", "most that 99 % of the sets waited"),
    ]
    if results.timing:
        tiles.append(
            (f"{1000 * results.timing.inference_median_s:.1f} ms", f"to infer a set here, on {summary.device}")
        )
    return "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)


def _findings(results: Results) -> str:
    text = ""
    for finding in findings(results):
        items = "".join(f"<li>{escape(detail)}</li>" for detail in finding.details)
        text += (
            f'<article class="finding {finding.verdict}"><h3>{escape(finding.question)} '
            f'<span class="verdict">{finding.word}</span></h3><p>{escape(finding.answer)}</p>'
            f"{f'<ul>{items}</ul>' if items else ''}</article>"
        )
    return text


def _pictures(results: Results) -> str:
    pictures = results.pictures
    if pictures is None:
        return "<p>No modality of this checkpoint is an image.</p>"
    body = ""
    for name, seen in pictures.seen.items():
        unit = "" if seen.ndim == 4 else ", in metres: near is bright, far is dark, grey is no reading"
        body += (
            f'<h3>{escape(name)}<span class="note">{unit}</span></h3>'
            f'<div id="compare-{name}"></div><div class="scroll" id="film-{name}"></div>'
        )
    return (
        '<p class="note">Upper row: recorded, and predicted from some of what was recorded. Below each prediction its '
        "uncertainty: the standard deviation over draws from the posterior, "
        '<span class="legend">sure<span class="heatramp"></span>unsure</span></p>'
        '<div class="controls"><button type="button" id="before" aria-label="Moment before">‹</button>'
        '<label for="scrubber">Moment</label><input type="range" id="scrubber" min="0" value="0" step="1">'
        '<button type="button" id="after" aria-label="Moment after">›</button>'
        '<output id="moment" for="scrubber"></output></div>' + body
    )


def _vector_section(name: str) -> str:
    return (
        f'<section id="section-{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(name.capitalize())}, '
        f'recorded and predicted</h2><p class="legend" id="legend-{name}"></p>'
        f'<div class="panels" id="values-{name}"></div></section>'
    )


def _latent_note(results: Results, explained: float) -> str:
    points = min(len(results.sets.seconds), 1500)
    contact = (
        f" A bag holds no label of contact: it is taken from the force ({escape(results.force)}, recorded or else "
        "predicted) beyond the threshold that you choose."
        if results.force
        else " There is no force, so contact is not known."
    )
    return (
        f"The posterior means of {points:,} sets, evenly spaced. PCA keeps distances along the two widest directions, "
        f"which have {percent(explained)} of the variance; "
        f"t-SNE (perplexity {PERPLEXITY:g}) keeps neighbours, not distances.{contact} "
        "The ring is the moment of the pictures."
    )


def _provenance(results: Results) -> str:
    summary = results.summary
    rows = [
        ("Bag", f"{escape(summary.bag)}<br><code>sha256 {escape(summary.bag_sha256)}</code>"),
        ("Checkpoint", f"{escape(summary.checkpoint)}<br><code>sha256 {escape(summary.checkpoint_sha256)}</code>"),
        ("Settings", f"<code>sha256 {escape(summary.settings_sha256)}</code>"),
        ("Versions", escape(", ".join(f"{name} {version}" for name, version in summary.versions.items()))),
        ("Device", escape(summary.device)),
        ("Messages read", f"{summary.extent.messages:,}"),
    ]
    settings = json.dumps(
        {"settings": summary.settings.model_dump(), "what_if": summary.what_if.model_dump()}, indent=2, default=str
    )
    return pairs(rows) + f"<details><summary>All settings</summary><pre>{escape(settings)}</pre></details>"
