"""Processes that are started afresh (spawned), so that they do not inherit threads, locks or a GPU.

>>> with made_elsewhere(partial(read, bag), ahead=1 << 26) as sets:  # which are read while this process works on others
...     for one in sets:
...         ...
"""

import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

from smvae_core.errors import SMVAEError

_PATIENCE_S = 5.0
"""So long a process has for closing what it has opened."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ProcessError(SMVAEError):
    """A process that ended before its work was done."""


@contextmanager
def made_elsewhere(
    make: Callable[[], Generator[Item, None, Result]], ahead: int
) -> Iterator[Generator[Item, None, Result]]:
    """Run a generator in a process of its own; yield a generator of the same items, with the same result.

    The process ends with the block, and with this process, however that ends.

    Args:
        make: is sent to the process, as its items are sent back.
        ahead: bytes of items that are made before anybody takes them; always room for one item.

    Raises:
        ProcessError: from the generator: the process was killed. It also raises whatever the other one raises.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(make, ahead, sender), daemon=True)
    with without_main(), without_interrupts():
        process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        with closing(receiver):
            yield _received(receiver, process)
    finally:
        process.terminate()
        process.join(_PATIENCE_S)
        process.kill()
        process.join()


def can_have_children() -> bool:
    """Return whether this process may start others: a daemonic one, as of a pool, a loader or Dask, may not."""
    return not multiprocessing.current_process().daemon


@contextmanager
def without_main() -> Iterator[None]:
    """Let processes that are spawned inside not import the main script again.

    `multiprocessing` imports the main script in every spawned process. A script without `if __name__ == "__main__":`
    would start its work a second time there, and both processes would wait for each other. The processes of this
    package need nothing of the main script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Let processes that are started inside inherit that SIGINT is blocked: Ctrl-C reaches all of a terminal."""
    resource_tracker.ensure_running()  # as it begins, with the first process, it lets SIGINT through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _received(receiver: Connection, process: BaseProcess) -> Generator[Any, None, Any]:
    while True:
        try:
            kind, content = receiver.recv()
        except (EOFError, OSError):  # between two items, or within one
            process.join()
            code = process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise ProcessError(f"a process of smvae {how} before its work was done") from None
        if kind == "error":
            error, told = content
            raise error from (None if isinstance(error, SMVAEError) else RuntimeError(f"in another process:\n{told}"))
        if kind == "end":
            return content
        yield content


def _send_all(make: Callable[[], Generator[Any, None, Any]], ahead: int, connection: Connection) -> None:
    """Run a generator, and send what it yields and returns."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True
        sys.exit(1)  # an exception, so that whatever the generator has opened is closed

    signal.signal(signal.SIGTERM, end)
    # Where Python passes over exceptions, as in the end of an object, the next item ends the work.
    sys.unraisablehook = lambda one: None if one.exc_type is SystemExit else sys.__unraisablehook__(one)
    sender = _Sender(connection, ahead)
    sender.start()
    try:
        with closing(_told(make())) as told:
            for message in told:
                if ended:
                    sys.exit(1)
                sender.put(pickle.dumps(message, protocol=5))
    except Exception as error:
        sender.put(pickle.dumps(("error", (_as_sent(error), traceback.format_exc()))))
    sender.put(None)
    sender.join()


class _Sender(threading.Thread):
    """Sends messages while other threads go on; None is the last."""

    def __init__(self, connection: Connection, ahead: int) -> None:
        super().__init__(name="sender", daemon=True)
        self._connection, self._ahead = connection, ahead
        self._waiting: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, message: bytes | None) -> None:
        """Add a message; wait while those before it are too many."""
        size = len(message or b"")
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes or self._bytes + size <= self._ahead)
            self._bytes += size
            self._waiting.append(message)
            self._changed.notify()

    def run(self) -> None:
        """Send until the last message."""
        while (message := self._next()) is not None:
            try:
                self._connection.send_bytes(message)
            except OSError:  # nobody is there any more
                self._end()
                return
            with self._changed:
                self._bytes -= len(message)
                self._changed.notify()

    def _end(self) -> None:
        # The signal may come just before the main thread begins to wait for room, and does not wake it then.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        with self._changed:
            self._ahead = sys.maxsize
            self._changed.notify()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()


def _told(items: Generator[Any, None, Any]) -> Generator[tuple[str, Any], None, None]:
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            yield "end", end.value
            return
        yield "item", item


def _as_sent(error: Exception) -> Exception:
    """Return an error that can be sent to another process."""
    try:
        sent = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = None
    return error if type(sent) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")
