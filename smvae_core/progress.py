"""The progress bar of long work."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console) -> Progress:
    """Return a bar with a text (`figures`) at its end. It vanishes when done, and shows nothing without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    figures = TextColumn("{task.fields[figures]}")
    return Progress(*columns, figures, console=console, transient=True, disable=not console.is_terminal)
