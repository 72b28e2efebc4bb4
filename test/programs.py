"""Real processes of Python programs that begin without the seconds that importing PyTorch takes.

    run([sys.executable, "-m", "smvae_core.cli", "info", path], capture_output=True, text=True)
    with Program([sys.executable, "-c", code], stdout=PIPE) as process: ...

They are `subprocess.run` and `subprocess.Popen`, for commands whose first word is this Python or one of its scripts:
process, session, arguments, streams, folder, environment, signals and exit code are the program's own. Its interpreter
is a fork of one that has imported the libraries (`fork_server`).
"""

import atexit
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("fork_server.py")


class Program(subprocess.Popen):
    """`subprocess.Popen` of a Python program."""

    def _execute_child(
        self,
        args: list[Any],
        executable: None,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: tuple[int, ...],
        cwd: Path | None,
        env: dict[str, str] | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        *others: Any,
    ) -> None:
        stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write = others[:6]
        _restore_signals, gid, gids, uid, umask, start_new_session, *process_group = others[6:]
        wanted = (executable, preexec_fn, pass_fds, shell, gid, gids, uid, umask, process_group)
        assert wanted in ((None, None, (), False, None, None, None, -1, group) for group in ([], [-1])), wanted
        words = list(map(str, args))
        request = {
            "arguments": words[1:] if words[0] == sys.executable else words,
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or os.getcwd()),
            "session": start_new_session,
        }
        self._answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams = [
            own if own != -1 else default for default, own in enumerate((stdin_read, stdout_write, stderr_write))
        ]
        with theirs:
            socket.send_fds(_server(), [pickle.dumps(request)], [*streams, theirs.fileno()])
        answer = self._answer.recv(4096)
        if not answer:
            raise RuntimeError(f"{SERVER}: expected a process to fork for {words}, found that it has ended")
        self.pid = pickle.loads(answer)
        self._child_created = True
        self._close_pipe_fds(stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        flags = socket.MSG_DONTWAIT if wait_flags & os.WNOHANG else 0
        try:
            return self.pid, pickle.loads(self._answer.recv(4096, flags))
        except BlockingIOError:
            return 0, 0

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(command: list[Any], *, timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess:
    """Run a Python program to its end, as `subprocess.run` does."""
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Program(command, **options) as process:
        try:
            told, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, told, errors)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen, every_s: float = 0.01) -> None:
    """Look again and again until the condition holds, without taking the processor from the process meanwhile.

    Raises:
        AssertionError: the process ended before.
    """
    while not condition():
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(every_s)
            raise AssertionError(f"the process ended with {code} before what was waited for")


@cache
def _server() -> socket.socket:
    """Start the server; it ends with this process."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # More threads would begin with the imports, and be lost in forks.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(SERVER), str(theirs.fileno())]
    with theirs:
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)

    @atexit.register
    def end() -> None:
        requests.close()
        server.wait()

    return requests
