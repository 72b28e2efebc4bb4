"""The fusion node as a process of its own, and a ROS domain for it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix
from domain_coordinator import domain_id

from ..programs import Program, wait_until

PATIENCE_S = 150.0
"""Long, since a machine may run many things beside the tests: only what fails waits so long."""


@contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses at the same time, never left for the network."""
    with domain_id() as number:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        os.environ["ROS_DOMAIN_ID"] = str(number)
        yield number


class FusionProcess:
    """The installed executable, its output in a file.

    It runs with plain PyTorch unless a parameter says otherwise: to compare back ends takes longer than most tests.
    `popen=subprocess.Popen` starts Python itself, for tests of the start and of the end.
    """

    def __init__(
        self,
        log: Path,
        parameters: dict[str, Any],
        remappings: Iterable[str] = (),
        files: Iterable[Path] = (),
        popen: type[subprocess.Popen] = Program,
    ) -> None:
        self._log = log
        executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / "fusion_node"
        command = [str(executable), "--ros-args"]
        for name, value in {"backend": "eager", **parameters}.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        for remapping in remappings:
            command += ["-r", remapping]
        for file in files:
            command += ["--params-file", str(file)]
        with log.open("w") as file:
            self.process = popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def output(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def wait_for_handlers(self) -> None:
        """Wait until the process catches SIGTERM, as it does from the first line of `main` on."""
        status, caught = Path(f"/proc/{self.process.pid}/status"), re.compile(r"^SigCgt:\s*(\w+)", re.MULTILINE)
        handled = 1 << (signal.SIGTERM - 1)
        wait_until(lambda: int(caught.search(status.read_text())[1], 16) & handled, self.process, every_s=0.001)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
