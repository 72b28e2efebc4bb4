"""`smvae log --format lerobot`: bags become one LeRobot data set, whole or not at all."""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from smvae_core.data.draft import describe
from smvae_core.data.formats.lerobot import find_episodes, read_episode
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.preprocessing import RGB, Vector
from smvae_ros.replay.to_lerobot import feature_names, unshifted
from smvae_ros.replay.to_logs import write_logs
from smvae_ros.settings import default_settings

from ...programs import Program
from ..command import command, smvae

CAMERA, DEPTH, FORCE = "observation.images.rgb", "observation.depth", "observation.force"


def test_bags_become_the_episodes_of_one_data_set(bag: Path, tmp_path: Path) -> None:
    bags = [shutil.copytree(bag, tmp_path / "bags" / name) for name in ("monday", "tuesday")]
    out = tmp_path / "new" / "set"
    done = smvae("log", *bags, "--out", out, "--format", "lerobot", "--task", "insert the peg", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "2 episodes at 20 steps a second; rgb is observation.images.rgb" in " ".join(done.stdout.split())
    assert [path.name for path in out.parent.iterdir()] == ["set"], "no folder of unfinished work is left"
    assert [trajectory.name for trajectory in find_episodes(out)] == ["episode_000000", "episode_000001"]
    info = json.loads((out / "meta" / "info.json").read_text())
    assert (info["fps"], info["total_frames"]) == (20, 42)
    assert json.loads((out / "meta" / "tuesday.account.json").read_text())["rows"] == 21
    modalities = unshifted(vision_touch_modalities())
    (file,) = write_logs(bag, modalities, default_settings(modalities), tmp_path / "logs").files
    found = read_episode(out / "episode_000001", [CAMERA, DEPTH, FORCE, "action"], {})
    with h5py.File(file) as log:
        for key, feature in (("depth_data", DEPTH), ("ee_forces_continuous", FORCE), ("action", "action")):
            np.testing.assert_array_equal(found[feature], log[key][:].astype(np.float32), err_msg=feature)
        for mine, theirs in zip(found[CAMERA], log["image"][:], strict=True):
            assert mine.shape == theirs.shape
    kinds = {feature.key: feature.kind for feature in describe(out).features if not feature.problem}
    assert kinds == {CAMERA: "picture", DEPTH: "depth", FORCE: "window", "action": "vector"}


def test_an_episode_has_every_modality_and_the_others_are_told(
    bag: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def without_depth_at_the_end(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        if topic != "/depth/image" or number < 12:
            yield log_ns, content

    source = edited(bag, without_depth_at_the_end)
    done = smvae("log", source, "--out", tmp_path / "set", "--format", "lerobot", "--strict")
    assert done.returncode == 3
    assert "1 of 2 trajectories were left out, because an episode needs all of rgb, depth" in done.stderr
    assert [len(read_episode(tmp_path / "set" / "episode_000000", ["action"], {})["action"])] == [12]


def test_a_folder_that_exists_and_bags_without_sets_leave_nothing(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    done = smvae("log", bag, "--out", tmp_path / "set", "--format", "lerobot")
    assert done.returncode == 2 and "exists already" in done.stderr and not any((tmp_path / "set").iterdir())
    (tmp_path / "broken.mcap").write_bytes(b"nothing")
    done = smvae("log", tmp_path / "broken.mcap", "--out", tmp_path / "other" / "set", "--format", "lerobot")
    assert done.returncode == 2 and "broken.mcap" in done.stderr and not (tmp_path / "other").exists()


def test_ctrl_c_leaves_nothing(bag: Path, tmp_path: Path) -> None:
    arguments = ["log", str(bag), "--out", str(tmp_path / "sets" / "one"), "--format", "lerobot"]
    running = Program(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any((tmp_path / "sets").glob(".one.*")):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {running.wait(0.01)} before it began to write")
    running.send_signal(signal.SIGINT)
    _, told = running.communicate()
    assert (running.returncode, told) == (130, "interrupted\n")
    assert not any(tmp_path.iterdir())


def vector(name: str, source: str, pairs: str | None = None) -> Modality:
    return Modality(
        name=name, source=source, pairs=pairs, preprocessing=Vector(size=2), network="vector", likelihood="normal"
    )


@pytest.mark.parametrize(
    ("modalities", "names"),
    [
        ([vector("joints", "joints"), vector("drive", "cmd", "following")], ["observation.state", "action"]),
        ([vector("left", "l"), vector("right", "r")], ["observation.left", "observation.right"]),
        ([vector("a", "a", "following"), vector("b", "b", "following")], ["action.a", "action.b"]),
        ([vector("s", "observation.effort"), vector("action", "action")], ["observation.effort", "action"]),
    ],
)
def test_features_have_the_names_that_policies_look_for(modalities: list[Modality], names: list[str]) -> None:
    camera = Modality(name="eye", source="eye", preprocessing=RGB(), network="image", likelihood="bernoulli")
    assert list(feature_names([*modalities, camera]).values()) == [*names, "observation.images.eye"]
