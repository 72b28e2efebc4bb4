"""The `smvae` command as a process of its own."""

import subprocess
import sys
from collections.abc import Callable

from ..programs import run


def smvae(*arguments: object, run: Callable = run) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `run=subprocess.run` starts Python itself, once for each command."""
    return run(command(*arguments), capture_output=True, text=True)


def command(*arguments: object) -> list[str]:
    """Return the words of the command line."""
    return [sys.executable, "-c", "from smvae_ros.cli import main; main()", *map(str, arguments)]
