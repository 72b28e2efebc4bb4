"""How a command ends that could not do what it was asked to."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from smvae_core.errors import SMVAEError


def run(application: Callable[[], None]) -> None:
    """Run a typer application: bad input becomes one sentence on stderr and exit code 2."""
    try:
        application()
    except SMVAEError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)


def partly_done(errors: Sequence[str], total: int, what: str) -> None:
    """List, at the end, those of several that were left out; the exit code is 3 where there are any.

    Args:
        what: they are, and could not be, as "bags could not be replayed".
    """
    if not errors:
        return
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"[bold red]error:[/] {len(errors)} of {total} {what}:")
    for error in errors:
        console.print(escape(f"  {error}"))
    raise typer.Exit(3)


class Commands(TyperGroup):
    """The commands; Ctrl-C in any of them is told, and the exit code 130 whatever the version of click."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            raise typer.Exit(130) from None
