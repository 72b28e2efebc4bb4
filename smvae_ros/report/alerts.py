"""Alerts on top of a page: damage, faults and warnings, on which everything below depends."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from smvae_ros.replay.faults import interval
from smvae_ros.replay.summary import WhatIf


def alert(title: str, sentences: Sequence[str], kind: str = "") -> str:
    """Return an alert as HTML from a title and sentences as text."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="alert {kind}" role="note"><strong>{escape(title)}</strong><ul>{items}</ul></div>'


def faults(what_if: WhatIf) -> str:
    """Return the faults of a what-if as HTML; empty text if there are none."""
    sentences = [f"{drop.modality}: taken away {interval(drop)}" for drop in what_if.drop]
    sentences += [f"{name}: noise of {noise:g} added, in model units" for name, noise in what_if.noise.items()]
    sentences += [f"{name}: delayed by {1000 * delay:g} ms" for name, delay in what_if.delay.items()]
    title = "What if: these faults were put on top of what was recorded. Errors are against what was recorded."
    return alert(title, sentences, "what-if") if sentences else ""
