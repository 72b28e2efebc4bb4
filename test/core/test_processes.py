"""A generator in a process of its own: the same items, result and errors, and nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from smvae_core.errors import ConfigurationError
from smvae_core.processes import ProcessError, made_elsewhere

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # so that spawned processes, which get the path of this one, find them, too
generators = import_module("generators")
ROOM = 4 * len(generators.BLOCK)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("count", [0, 1, 50])
def test_items_and_result_come_from_another_process(count: int) -> None:
    items: list[int] = []

    def take(made: Generator[int, None, str]) -> Generator[int, None, str]:
        return (yield from made)

    with made_elsewhere(partial(generators.squares, count), ahead=ROOM) as made:
        taken = take(made)
        try:
            while True:
                items.append(next(taken))
        except StopIteration as end:
            told, pid = str(end.value).split(" by ")
    assert items == [n * n for n in range(count)]
    assert told == f"{count} squares" and int(pid) != os.getpid()


def test_an_error_comes_after_the_items_before_it() -> None:
    error = ConfigurationError("bag: expected this, found that")
    with made_elsewhere(partial(generators.squares, 3, error), ahead=ROOM) as made:
        assert [next(made) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(ConfigurationError, match="bag: expected this, found that") as raised:
            next(made)
    assert raised.value.__cause__ is None


def test_a_defect_tells_where_it_happened() -> None:
    with made_elsewhere(partial(generators.squares, 1, ZeroDivisionError("by nothing")), ahead=ROOM) as made:
        assert next(made) == 0
        with pytest.raises(ZeroDivisionError, match="by nothing") as raised:
            next(made)
    assert "generators.py" in str(raised.value.__cause__)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    with made_elsewhere(generators.two_words, ahead=ROOM) as made:
        assert next(made) == 1
        with pytest.raises(RuntimeError, match="TwoWords: bad luck"):
            next(made)


@pytest.mark.parametrize("after", [0, 3])
def test_a_killed_process_is_an_error(after: int) -> None:
    with (
        made_elsewhere(partial(generators.killed, after), ahead=ROOM) as made,
        pytest.raises(ProcessError) as raised,
    ):
        list(made)
    assert str(raised.value) == "a process of smvae was killed by SIGKILL before its work was done"


def test_no_more_items_are_made_than_room_is_for(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with made_elsewhere(partial(generators.endless, tmp_path / "open", folder), ahead=ROOM) as made:
        for _ in range(10):
            next(made)
        until(lambda: len(list(folder.iterdir())) >= 14)
        time.sleep(0.3)
        # Ten taken, four in advance, one on its way and one that waits for room.
        assert len(list(folder.iterdir())) <= 16


def test_what_the_generator_opened_is_closed_when_nobody_takes_more(tmp_path: Path) -> None:
    opened = tmp_path / "open"
    with made_elsewhere(partial(generators.endless, opened), ahead=ROOM) as made:
        next(made)
        pid = int(opened.read_text())
    assert not opened.exists() and not is_alive(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_the_process_that_started_it(how: signal.Signals, tmp_path: Path) -> None:
    opened = tmp_path / "open"
    script = (
        "import sys, time; from functools import partial; from pathlib import Path;"
        "import generators; from smvae_core.processes import made_elsewhere\n"
        "with made_elsewhere(partial(generators.endless, Path(sys.argv[1])), ahead=1) as made:\n"
        "    for one in made:\n"
        "        time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", script, str(opened)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True) as run,
    ):
        until(lambda: opened.exists() and opened.read_text())
        pid = int(opened.read_text())
        if how == signal.SIGINT:  # as a terminal sends it
            os.killpg(run.pid, how)
        else:
            run.send_signal(how)
        run.wait(20)
    until(lambda: not is_alive(pid))
    assert not opened.exists()
    # Only the process that started the other one tells of Ctrl-C.
    assert (tmp_path / "errors").read_text().count("Traceback") == (how == signal.SIGINT)
