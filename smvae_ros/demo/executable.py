"""An installed executable of this package as a process, watched while it runs and ended when it is done with."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from smvae_core.interrupts import interruptible, uninterrupted

_END_S = 30.0
_KILL_S = 5.0
"""Seconds that it may take to end where something else has failed; then it is killed."""


class ExecutableError(Exception):
    """An executable that is not installed, or that ended when it should not."""


@contextmanager
def running(name: str, namespace: str, parameters: Mapping[str, object], log: Path) -> Iterator[Callable[[], None]]:
    """Run `lib/smvae_ros/NAME` with its output in a file, and end it by SIGINT afterwards.

    Yields:
        A check that raises once the process has ended.

    Raises:
        ExecutableError: the package is not built, or the process ended early or with another exit code than 0; the
            sentence holds the last lines of the log.
    """
    try:
        executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / name
    except PackageNotFoundError:
        raise ExecutableError(
            "the package smvae_ros is not on AMENT_PREFIX_PATH; build it and source its setup file"
        ) from None
    command = [str(executable), "--ros-args", "-r", f"__ns:={namespace}"]
    command += [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]

    def failed(what: str) -> ExecutableError:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        return ExecutableError(f"{name} {what}; its last lines, from {log}:\n{tail}")

    def check() -> None:
        if process.poll() is not None:
            raise failed(f"ended with exit code {process.returncode}")

    with uninterrupted():
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            with interruptible():
                yield check
                process.send_signal(signal.SIGINT)
                try:
                    code = process.wait(_END_S)
                except subprocess.TimeoutExpired:
                    raise failed(f"did not end within {_END_S:g} s") from None
                if code:
                    raise failed(f"ended with exit code {code}")
        finally:
            if process.poll() is None:
                # Killed at once it would leave the shared memory of its topics.
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_KILL_S)
                process.kill()
                process.wait()
