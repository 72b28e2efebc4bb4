"""The end of a command that could not do all that it was asked to: one sentence, and an exit code."""

import atexit
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from smvae_core.device import first_line
from smvae_core.errors import SMVAEError

# Beginnings of messages of torch, which is not imported for this.
_GPU_ERRORS = ("CUDA error", "CUDA out of memory", "cuDNN error", "cuBLAS error")


def run(application: Callable[[], None]) -> None:
    """Run a typer application; bad input ends it with one sentence on stderr and exit code 2."""
    # The search for cycles among the objects of torch's modules takes a quarter of a second while they are imported,
    # and half a second as the interpreter ends.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    try:
        application()
    except SMVAEError as error:
        _end(str(error))
    except RuntimeError as error:
        if not str(error).startswith(_GPU_ERRORS):
            raise
        _end(f"the GPU failed ({first_line(error)}); end other programs on it, or choose --device cpu")


def _end(sentence: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(sentence)}")
    sys.exit(2)


def partly_done(errors: Sequence[str], total: int, what: str) -> None:
    """List the inputs that could not be used; end with exit code 3 if there are any.

    Args:
        errors: a sentence for each of them.
        total: number of inputs.
        what: continues the sentence "3 of 5 …", as "bags could not be replayed".

    Raises:
        Exit: with code 3.
    """
    if not errors:
        return
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"[bold red]error:[/] {len(errors)} of {total} {what}:")
    for error in errors:
        console.print(escape(f"  {error}"))
    raise typer.Exit(3)


class Commands(TyperGroup):
    """A group of commands that ends with exit code 130 after Ctrl-C, whatever the version of click."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the user named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            raise typer.Exit(130) from None
