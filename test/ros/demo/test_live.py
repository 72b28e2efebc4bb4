"""`python -m smvae_ros.demo.live`, as a process, and the animation that it writes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from smvae_ros.demo.animation import TILE, frame, write_gif, write_mp4
from smvae_ros.demo.audience import SENSORS
from smvae_ros.demo.live import SCHEDULE
from smvae_ros.simulated_robot.faults import IMAGE_FAULTS, NUMBER_FAULTS

from ...programs import Program
from ..robot import own_domain

pytestmark = pytest.mark.rendering

PATIENCE_S = 240.0


def test_it_shows_a_table_while_sensors_fail_and_leaves_an_animation(tmp_path: Path) -> None:
    with own_domain():
        command = [sys.executable, "-m", "smvae_ros.demo.live", "--seconds", "8", "--out", str(tmp_path)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all sensors work again" in done.stdout
    for heading in ("seen", "predicted", "trust"):
        assert heading in done.stdout
    with Image.open(tmp_path / "live.gif") as picture:
        assert picture.n_frames >= 8
    with av.open(str(tmp_path / "live.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) >= 8


def test_ctrl_c_ends_it_and_both_of_its_processes(tmp_path: Path) -> None:
    with own_domain():
        command = [sys.executable, "-m", "smvae_ros.demo.live", "--out", str(tmp_path)]
        process = Program(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        log = tmp_path / "fusion_node.log"
        while not (log.exists() and "active" in log.read_text()):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    namespace = f"smvae_live_{process.pid}"
    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(namespace.encode() in line for line in arguments)


def test_the_schedule_names_sensors_and_faults_that_there_are() -> None:
    starts = [start for start, _, _ in SCHEDULE]
    assert starts == sorted(starts) and starts[0] == 0.0 and starts[-1] < 1.0
    for _, _, faults in SCHEDULE:
        assert set(faults) <= set(SENSORS.values())
        assert all(
            fault in (IMAGE_FAULTS if sensor in ("rgb", "depth") else NUMBER_FAULTS) for sensor, fault in faults.items()
        )


@pytest.fixture
def frames() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        frame(f"moment {i}", i == 2, [("seen", None), ("predicted", random.integers(0, 255, (64, 64, 3), np.uint8))])
        for i in range(5)
    ]


def test_a_frame_shows_what_is_there_and_says_what_is_not(frames: list[np.ndarray]) -> None:
    assert frames[0].shape[1] > 2 * TILE
    assert not np.array_equal(frames[0][:30], frames[2][:30]), "the title turns red"


def test_an_animation_has_every_frame(frames: list[np.ndarray], tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", frames, 4)
    write_mp4(tmp_path / "a.mp4", frames, 4)
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.n_frames, picture.size) == (5, frames[0].shape[1::-1])
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5
