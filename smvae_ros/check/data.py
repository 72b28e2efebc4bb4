"""The check of a data set: its features, and the draft of a configuration to train on them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from smvae_core.cli.exit import partly_done
from smvae_core.data.draft import FEATURE_COLUMNS, describe, draft, feature_rows, summary
from smvae_core.errors import ConfigurationError


def check_data(data: Path, write: str | None, console: Console) -> None:
    """Print what a data set holds, and write the draft of a configuration where a name for it is given.

    Raises:
        Exit: with code 3, after all else: episodes cannot be used.
        LogError: no data set, or nothing in it to learn from.
        ConfigurationError: the draft's file exists already, or cannot be written.
    """
    found = describe(data)
    table = Table()
    for head in FEATURE_COLUMNS:
        table.add_column(head, overflow="fold")  # a key that is cut off would be none
    for row in feature_rows(found):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(escape(summary(found)), soft_wrap=True)
    for sentence in found.lacking:
        console.print(f"[yellow]{escape(sentence)}; they are used without it[/]", soft_wrap=True)
    text = draft(found)
    if write is not None:
        _write(text, write, data, console)
    partly_done(found.unusable, found.looked_at, "episodes that were looked at cannot be used (train with --skip-bad)")


def _write(text: str, write: str, data: Path, console: Console) -> None:
    path = Path(f"{write}.yaml")
    if path.exists():
        raise ConfigurationError(f"{path}: exists already; give --write another name or remove it")
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from None
    console.print(
        f"drafted {escape(str(path))}; train with: smvae train --data {escape(str(data))} --config {escape(str(path))} "
        "--out runs/NAME",
        soft_wrap=True,
    )
