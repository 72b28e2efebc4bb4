"""The result of a check, for the screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from smvae_ros.check.verdicts import Verdict

_COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


def check_table(verdict: Verdict) -> Table:
    """Return a line for each fact of each modality."""
    table = Table("modality", "what", "found", "wanted", "verdict")
    before = ""
    for line in verdict.lines:
        if line.modality != before:
            table.add_section()
        colour = _COLOURS[line.level]
        advice = f": {escape(line.advice)}" if line.advice else ""
        table.add_row(
            escape(line.modality) if line.modality != before else "",
            line.fact,
            escape(line.found),
            escape(line.wanted),
            f"[{colour}]{line.level}[/]{advice}",
        )
        before = line.modality
    return table


def unused_lines(verdict: Verdict) -> Iterator[str]:
    """Yield the topics that bring no modality."""
    for topic in verdict.unused:
        messages = "" if topic.messages is None else f", {topic.messages:,} messages"
        yield f"not used: {topic.name} ({', '.join(topic.types)}{messages})"


def conclusion(verdict: Verdict) -> str:
    """Return whether the node would fuse, in a sentence."""
    if verdict.fuses:
        return f"the node would fuse: {verdict.sets:,} sets"
    reasons = [f"{line.modality}: {line.fact} {line.found}" for line in verdict.errors] or ["no set went out"]
    return f"the node would not fuse: {'; '.join(reasons)}"
