"""Imports the slow libraries once, and forks a process for each Python program that `test.programs` asks for.

    fork_server.py SOCKET

A fork does what `python` does with the same arguments: it takes argv, working directory, environment and standard
streams from the request and imports the program and our packages. Only libraries of others are imported beforehand, so
that the modules of this repository are imported, and their console's width is read from the environment, in each
process. A fork ends as the interpreter ends, but for one step: after threads and exit handlers have ended it does not
take the libraries apart, which takes longer than most programs here. Tests of that step start `python` itself.
"""

import atexit
import ctypes
import gc
import importlib
import os
import pickle
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

# Those that start a thread when they are imported (rclpy, pyarrow, scikit-learn) are not among them: a fork has none.
LIBRARIES = (
    "torch",
    "torch.utils.tensorboard",
    "lightning_fabric",
    "matplotlib.figure",
    "scipy.stats",
    "scipy.spatial.transform",
    "h5py",
    "cv2",
    "pydantic",
    "safetensors.torch",
    "typer",
    "rich.progress",
    "rich.table",
    "rosbags.highlevel",
    "mcap.reader",
)

INTERRUPT = signal.getsignal(signal.SIGINT)
"""What a Python that is started here does at Ctrl-C; in the background of a shell without job control it ignores it."""
_PR_SET_PDEATHSIG = 1


def serve(requests: socket.socket) -> list[str]:
    """Fork for each request. Return the program's arguments in a fork; the server itself ends when nobody asks."""
    inherited = set(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = [entry for entry in sys.path if entry not in inherited]
    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Held back, not ignored: the terminal's Ctrl-C is for the programs, and one that comes early waits for a fork.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    asked: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                woken.recv(4096)
            for pid, status in ended():
                answer = asked.pop(pid)
                with answer, suppress(OSError):
                    answer.send(pickle.dumps(status))
        if requests in ready:
            message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
            if not message:
                os._exit(0)
            pid = os.fork()
            answer = socket.socket(fileno=descriptors[3])
            if pid == 0:
                for end in (requests, waker, woken, answer, *asked.values()):
                    end.close()
                return become(pickle.loads(message), descriptors[:3], path)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            answer.send(pickle.dumps(pid))
            asked[pid] = answer


def ended() -> list[tuple[int, int]]:
    """Return process ids and statuses of the forks that have ended."""
    found = []
    with suppress(ChildProcessError):
        while (pair := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(pair)
    return found


def become(request: dict, streams: list[int], path: list[str]) -> list[str]:
    """Take over signals, streams, folder, environment and path of the program, and return its arguments."""
    if request["session"]:
        os.setsid()
    # No program outlives tests that were killed: a node would be heard by those of the next run.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, INTERRUPT)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    # sys.stdin, sys.stdout and sys.stderr stay: they are of the descriptors 0 to 2, and nothing is in their buffers.
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*(entry for entry in own if entry), *path]
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")  # that of the program's PYTHONPATH, as each Python does
    import numpy as np

    np.random.seed()  # else all forks would draw the same
    return request["arguments"]


def run(arguments: list[str]) -> None:
    """Run the program and end with its exit code. What it raises goes on, so that the interpreter tells it."""
    code = 1
    # Registered before those of the program, so that it is called after them.
    atexit.register(lambda: end(code))
    try:
        execute(arguments)
        code = 0
    except SystemExit as stop:
        code = 0 if stop.code is None else stop.code & 0xFF if isinstance(stop.code, int) else 1
        raise
    except KeyboardInterrupt:
        code = -signal.SIGINT
        raise


def end(code: int) -> None:
    """End this process, by a signal if `code` is negative, without the destructors of modules."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def execute(arguments: list[str]) -> None:
    """Do what `python` does with the arguments: `-m MODULE`, `-c CODE` or a script."""
    option, *rest = arguments
    if option == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv[:] = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path.insert(0, os.path.dirname(os.path.realpath(option)))
        sys.argv[:] = arguments
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    for library in LIBRARIES:
        importlib.import_module(library)
    threads = [Path(f"/proc/self/task/{thread}/comm").read_text() for thread in os.listdir("/proc/self/task")]
    assert len(threads) == 1, f"the imports have started threads, which forks would lack: {threads}"
    gc.freeze()
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
