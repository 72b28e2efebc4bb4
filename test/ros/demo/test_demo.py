"""The demo as a user runs it: a process that starts another, ends by itself and leaves its files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from time import monotonic
from types import SimpleNamespace
from typing import Any

import cv2
import pytest

from smvae_ros.demo.executable import running

from ...programs import Program
from ..robot import own_domain

PATIENCE_S = 120.0
TITLES = ["all modalities", "no rgb", "no depth", "touch only", "cameras silent", "rgb freezes"]


@pytest.fixture
def demo(tmp_path: Path, bag: Path, checkpoint: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the demo on the short bag, a second for each pass."""
    with own_domain():
        begun: list[subprocess.Popen] = []

        def begin(
            program: tuple[str, ...] = ("-m", "smvae_ros.demo"),
            popen: type[subprocess.Popen] = Program,
            **changes: Any,
        ) -> subprocess.Popen:
            options = {"bag": bag, "checkpoint": checkpoint, "out": tmp_path / "demo", "seconds": 1.0, **changes}
            command = [sys.executable, *program, *(f"--{key}={value}" for key, value in options.items())]
            begun.append(popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            return begun[-1]

        try:
            yield begin
        finally:
            for process in begun:
                process.kill()
                process.wait()


def is_running(process_id: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look twenty times a second until the condition holds."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, f"waited in vain for {what}"
        Event().wait(0.05)


def child_of(process: subprocess.Popen) -> int:
    """The process id of the node that the demo has started."""

    def nodes() -> list[int]:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(child) for child in children if "fusion_node" in Path(f"/proc/{child}/cmdline").read_text()]

    wait_until(lambda: bool(nodes()), "the node's process")
    return nodes()[0]


def test_it_leaves_a_picture_and_the_numbers_of_every_subset_and_no_process(
    demo: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    process = demo(popen=subprocess.Popen)
    node = child_of(process)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert not is_running(node)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert [one["title"] for one in summary["passes"]] == TITLES
    assert summary["latents_published"] == sum(summary["sets_by_subset"].values()) > 0
    assert 0.0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    errors = summary["errors_by_subset"]["rgb+depth+force+action"]
    for name in ("rgb", "depth", "force", "action"):
        assert errors[name]["mse"] > 0.0
        assert errors[name]["nmse"] > 0.0
    silent, frozen = summary["passes"][-2:]
    assert (silent["subset"], frozen["subset"]) == ("force+action", "depth+force+action")
    assert set(silent["sets_by_subset"]) <= {"force+action", "force", "action"}, "nothing is seen after the change"
    assert frozen["latents"] > 0 and frozen["named_after_s"] is None, "this checkpoint has no trust"
    picture = cv2.imread(str(tmp_path / "demo" / "predictions.png"))
    assert min(picture.shape[:2]) > 400
    for title in TITLES:
        assert title in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_it_leaves_no_process(
    demo: Callable[..., subprocess.Popen], tmp_path: Path, number: signal.Signals
) -> None:
    process = demo()
    node = child_of(process)
    for line in process.stdout:
        if "Playing" in line:
            break
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not is_running(node)


_SIGNAL_BEFORE_THE_PLAYER_STARTS = """
import signal, threading
start = threading.Thread.start
def signal_and_start(thread):
    if "_play" in thread.name:
        signal.raise_signal(signal.SIGTERM)
    start(thread)
threading.Thread.start = signal_and_start
from smvae_ros.demo.__main__ import main
main()
"""


def test_interrupted_while_a_thread_starts_it_leaves_no_process(
    demo: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    process = demo(program=("-c", _SIGNAL_BEFORE_THE_PLAYER_STARTS))
    node = child_of(process)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Playing" in output, "Traceback" in output) == (130, True, False), output
    assert not is_running(node)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_while_a_process_starts_it_is_ended(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen:
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]))
        signal.raise_signal(number)
        return begun[-1]

    monkeypatch.setattr("smvae_ros.demo.executable.subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    with pytest.raises(KeyboardInterrupt), running("fusion_node", "/here", {}, tmp_path / "log"):
        pytest.fail("reached what needs the process")
    assert begun[0].returncode == -signal.SIGINT, "ended, so that it can clean up, and not killed"


def test_a_node_that_dies_is_a_clear_error(demo: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    process = demo(seconds=1000.0)
    os.kill(child_of(process), signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, output
    assert "fusion_node ended with exit code -9" in output
    assert "Traceback" not in output
    assert not (tmp_path / "demo" / "summary.json").exists()


def test_a_missing_recording_is_named(demo: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    process = demo(bag=tmp_path / "nowhere")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, output
    assert "nowhere: no such bag" in output
    assert "Traceback" not in output
