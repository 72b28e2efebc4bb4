"""The `smvae` command as a process of its own."""

import subprocess
import sys


def smvae(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [sys.executable, "-c", "from smvae_ros.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)
