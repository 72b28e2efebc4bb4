"""The simulated robot as a process that begins and ends, alone and beside the fusion node."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix
from smvae_ros.msg import Latent

from ..robot import FusionProcess, own_domain
from .watcher import PATIENCE_S, Watcher

pytestmark = pytest.mark.rendering


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    with own_domain() as number:
        yield number


def test_a_parameter_that_it_has_not_is_named_and_sigint_ends_it_with_exit_code_0(domain: int, tmp_path: Path) -> None:
    watcher = Watcher(domain, tmp_path / "log", rgb__fualt="unplugged")
    try:
        watcher.wait_for("rgb")
        assert "rgb.fualt: no such parameter; it has no effect" in watcher.log.read_text()
        watcher.process.send_signal(signal.SIGINT)
        watcher.process.send_signal(signal.SIGTERM)
        assert watcher.process.wait(PATIENCE_S) == 0
    finally:
        watcher.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("rgb.fault:=broken", "error: rgb.fault: expected one of none, unplugged"),
        ("policy:=sleep", "error: policy: expected one of scripted, commands, found 'sleep'"),
        (
            "rgb.rate:=fast joints.rate:=20 depth.rate:=.nan wrench.rate:=1.0e6 seed:=1e20",
            "error: seed: expected an integer, found 1e+20; rgb.rate: expected a double, found 'fast'; "
            "depth.rate: expected a double from 0.0 to 200.0, found nan; "
            "wrench.rate: expected a double from 0.0 to 1000.0, found 1000000.0; "
            "joints.rate: expected a double (with a point, as 20.0), found 20\n",
        ),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: str, told: str) -> None:
    done = start(*(word for argument in arguments.split() for word in ("-p", argument)))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert told in done.stderr


def test_without_mujoco_it_says_what_to_install(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['mujoco'] = None; from smvae_ros.simulated_robot.process import main; main()"
    # Not from the repository's root, whose smvae_ros/ has no messages.
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "the simulator needs MuJoCo, which is not installed: pip install" in done.stderr


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / "simulated_robot"
    command = [str(executable), "--ros-args", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=dict(os.environ))


def test_the_fusion_node_goes_on_while_the_camera_is_unplugged(domain: int, tmp_path: Path) -> None:
    watcher = Watcher(domain, tmp_path / "robot.log")
    fusion = FusionProcess(tmp_path / "fusion.log", {"backend": "eager"})
    try:
        watcher.hear("latent", "/fusion/latent", Latent)
        watcher.wait(lambda: "rgb" in getattr(watcher.last.get("latent"), "modalities", []), "a set with rgb")
        assert watcher.set("rgb.fault", "unplugged").successful
        # On a busy machine the robot renders so slowly that some depth images come too late for their sets.
        watcher.wait(
            lambda: "rgb" not in watcher.last["latent"].modalities and "depth" in watcher.last["latent"].modalities,
            "a set with depth and without rgb",
        )
        assert watcher.set("rgb.fault", "none").successful
        watcher.wait(lambda: "rgb" in watcher.last["latent"].modalities, "rgb again")
    finally:
        fusion.kill()
        watcher.close()
