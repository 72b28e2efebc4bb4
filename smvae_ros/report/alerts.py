"""Alerts on top of a page: damage, faults and warnings, on which everything below depends."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from smvae_ros.replay.summary import Fault, Kind, WhatIf


def alert(title: str, sentences: Sequence[str], kind: str = "") -> str:
    """Return an alert as HTML from a title and sentences as text."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="alert {kind}" role="note"><strong>{escape(title)}</strong><ul>{items}</ul></div>'


def faults(what_if: WhatIf) -> str:
    """Return the faults of a what-if as HTML; empty text if there are none."""
    sentences = [f"{fault.modality}: {_effect(fault)} {fault.interval}" for fault in what_if.faults]
    title = "What if: these faults were put on top of what was recorded. Errors are against what was recorded."
    return alert(title, sentences, "what-if") if sentences else ""


def _effect(fault: Fault) -> str:
    amount = f"{fault.amount:g}"
    effects: dict[Kind, str] = {
        "drop": "taken away",
        "delay": f"delayed by {1000 * fault.amount:g} ms",
        "swap": f"replaced by that of {fault.other.name if fault.other else ''}",
        "shift": f"moved by {amount} pixels",
        "cover": f"{100 * fault.amount:g} % covered",
        "dim": f"brightness times {amount}",
        "scale": f"values times {amount}",
        "bias": f"{amount} added to its values",
        "noise": f"noise of {amount} added, in model units",
        "zero": "zeros",
        "freeze": "frozen",
    }
    return effects[fault.kind]
