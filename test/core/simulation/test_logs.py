"""What a reader of simulated logs relies on: names, keys, shapes, dtypes, bytes; a step's parts belong together."""

import re
import resource
from pathlib import Path

import cv2
import h5py
import mujoco
import numpy as np
import pytest

from smvae_core.simulation.policy import PegPolicy
from smvae_core.simulation.scene import SceneLook, scene_xml
from smvae_core.simulation.simulate import SimulationError, simulate
from smvae_core.simulation.world import PegWorld

pytestmark = pytest.mark.rendering

SCHEMA = {
    "image": ((128, 128, 3), np.uint8),
    "depth_data": ((128, 128, 1), np.float32),
    "ee_forces_continuous": ((50, 6), np.float64),
    "contact": ((50,), np.bool_),
    "action": ((4,), np.float64),
    "proprio": ((8,), np.float64),
    "ee_pos": ((3,), np.float64),
    "ee_vel": ((3,), np.float64),
    "ee_vel_ori": ((3,), np.float64),
    "ee_ori": ((4,), np.float64),
    "ee_yaw": ((4,), np.float64),
    "ee_yaw_delta": ((4,), np.float64),
    "joint_pos": ((7,), np.float64),
    "joint_vel": ((7,), np.float64),
    "optical_flow": ((128, 128, 2), np.float32),
}


def read(files: list[Path], key: str) -> np.ndarray:
    """One key of consecutive parts, concatenated."""
    parts = []
    for path in files:
        with h5py.File(path) as file:
            parts.append(file[key][:])
    return np.concatenate(parts)


def contents(files: list[Path]) -> dict[str, bytes]:
    """Name to bytes."""
    return {path.name: path.read_bytes() for path in files}


def test_files_have_the_data_sets_names_and_nothing_else_is_left(logs):
    pattern = re.compile(r"\d{8}_\d{6}_triangle_0_journal_(\d+)_(\d+)_1000\.h5")
    numbers = [tuple(map(int, pattern.fullmatch(path.name).groups())) for path in logs]
    assert numbers == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sorted(logs[0].parent.iterdir()) == sorted(logs)


def test_every_file_has_the_data_sets_keys_shapes_and_dtypes(logs):
    for path, steps in zip(logs, (50, 10, 50, 10)):
        with h5py.File(path) as file:
            assert {key: (data.shape, data.dtype) for key, data in file.items()} == {
                key: ((steps, *shape), dtype) for key, (shape, dtype) in SCHEMA.items()
            }


def test_the_flow_leads_from_each_picture_to_the_next(logs):
    image, flow = read(logs[:2], "image"), read(logs[:2], "optical_flow")
    assert not flow[0].any()
    column, row = np.meshgrid(np.arange(128, dtype=np.float32), np.arange(128, dtype=np.float32))
    unmoved = followed = 0.0
    for t in range(1, len(image)):
        target = cv2.remap(image[t], column + flow[t, ..., 0], row + flow[t, ..., 1], cv2.INTER_LINEAR)
        unmoved += np.abs(image[t].astype(float) - image[t - 1]).sum()
        followed += np.abs(target.astype(float) - image[t - 1]).sum()
    assert followed < 0.8 * unmoved


def test_same_seed_gives_the_same_bytes_for_any_number_of_trajectories(logs, tmp_path):
    again = simulate(tmp_path, trajectories=1, steps=60, seed=5)
    assert contents(again) == contents(logs[:2])


def test_workers_write_the_same_bytes_and_report_every_step(logs, tmp_path):
    reported: list[int] = []
    shared = simulate(tmp_path, trajectories=2, steps=60, seed=5, workers=2, on_progress=reported.append)
    assert contents(shared) == contents(logs)
    assert sorted(reported) == [10, 10, 50, 50]


def test_seeds_and_trajectories_differ(logs, tmp_path):
    other = simulate(tmp_path, trajectories=1, steps=10, seed=6)
    first = [read([path], "action")[:10] for path in (logs[0], logs[2], other[0])]
    assert not np.allclose(first[0], first[1]) and not np.allclose(first[0], first[2])
    assert other[0].name not in contents(logs)


def test_progress_tells_the_steps_of_each_file_as_it_is_written(tmp_path):
    seen: list[tuple[int, int]] = []

    def look(steps: int) -> None:
        seen.append((steps, len(list(tmp_path.glob("*.h5")))))

    simulate(tmp_path, trajectories=1, steps=52, seed=0, on_progress=look)
    assert seen == [(50, 1), (2, 2)]


def test_carrying_out_the_logged_actions_step_by_step_gives_the_logged_poses_and_pictures(logs):
    action, position, image = (read(logs[:2], key) for key in ("action", "ee_pos", "image"))
    start = PegPolicy(np.random.default_rng([5, 0])).start_pose()
    with PegWorld("triangle", SceneLook(), np.random.default_rng(0)) as world:
        world.reset(start)
        for t in range(60):
            seen = world.step(action[t])
            assert np.array_equal(seen.position, position[t]) and np.array_equal(seen.image, image[t])


def test_pose_joints_and_proprio_belong_to_one_moment(logs):
    model = mujoco.MjModel.from_xml_string(scene_xml("triangle"))
    data = mujoco.MjData(model)
    keys = {key: read(logs[:2], key) for key in SCHEMA if key.startswith(("joint", "ee", "proprio"))}
    for t in range(0, 60, 7):
        data.qpos[:], data.qvel[:] = keys["joint_pos"][t], keys["joint_vel"][t]
        mujoco.mj_forward(model, data)
        assert data.site("tip").xpos == pytest.approx(keys["ee_pos"][t], abs=1e-9)
        assert data.sensor("tip_velocity").data == pytest.approx(keys["ee_vel"][t], abs=1e-9)
        assert data.sensor("tip_quaternion").data == pytest.approx(np.roll(keys["ee_ori"][t], 1), abs=1e-9)
    assert np.array_equal(keys["proprio"][:, :3], keys["ee_pos"])
    assert np.array_equal(keys["proprio"][:, 4:7], keys["ee_vel"])
    yaw = keys["proprio"][:, 3]
    assert 2 * np.arctan2(keys["ee_yaw"][:, 2], keys["ee_yaw"][:, 3]) == pytest.approx(yaw)
    turned = 2 * np.arctan2(keys["ee_yaw_delta"][:, 2], keys["ee_yaw_delta"][:, 3])
    assert turned[1:] == pytest.approx(np.diff(yaw), abs=1e-9)
    assert np.abs(np.diff(keys["joint_pos"], axis=0)).max(axis=0).min() > 1e-4, "each of the seven joints moves"


def test_the_arm_moves_through_a_good_part_of_the_picture(logs):
    images = np.concatenate([read([path], "image") for path in logs]).astype(float)
    assert (images.std(axis=0).mean(axis=-1) > 10).mean() > 0.12


@pytest.mark.parametrize("peg", ["round", "square"])
def test_other_pegs_look_and_are_called_otherwise(logs, tmp_path, peg):
    (path,) = simulate(tmp_path, trajectories=1, steps=2, seed=5, peg=peg)
    assert f"_{peg}_0_journal_0_0_1000" in path.name
    assert (read([path], "image")[0] != read(logs[:1], "image")[0]).any()


def test_the_scene_is_fixed_unless_it_is_varied(logs, tmp_path):
    varied = simulate(tmp_path, trajectories=2, steps=2, seed=5, vary_scene=True)
    table = (slice(100, 128), slice(0, 30))  # lower left: never behind the arm or the box

    def corner(path: Path) -> np.ndarray:
        return read([path], "image")[0][table].astype(int)

    assert np.array_equal(corner(logs[0]), corner(logs[2]))
    assert np.abs(corner(varied[0]) - corner(varied[1])).mean() > 5
    assert np.abs(corner(varied[0]) - corner(logs[0])).mean() > 5


def test_a_turned_camera_sees_the_same_motion_from_another_side(logs, tmp_path):
    (turned,) = simulate(tmp_path, trajectories=1, steps=2, seed=5, camera_yaw=25.0)
    assert np.array_equal(read([turned], "ee_forces_continuous"), read(logs[:1], "ee_forces_continuous")[:2])
    difference = read([turned], "image").astype(int) - read(logs[:1], "image")[:2]
    assert np.abs(difference).mean() > 5

    def seen_from_above(look: SceneLook) -> complex:
        offset = np.subtract(look.camera_position, look.camera_target)
        return complex(offset[0], offset[1])

    look = SceneLook()
    ratio = seen_from_above(look.turned(25.0)) / seen_from_above(look)
    assert abs(ratio) == pytest.approx(1) and np.degrees(np.angle(ratio)) == pytest.approx(25)


def test_nothing_is_overwritten(tmp_path):
    (path,) = simulate(tmp_path, trajectories=1, steps=2, seed=5)
    before = path.read_bytes()
    with pytest.raises(SimulationError, match=re.escape(str(tmp_path))):
        simulate(tmp_path, trajectories=3, steps=2, seed=5)
    assert contents(list(tmp_path.iterdir())) == {path.name: before}


def test_a_full_disk_is_told_and_leaves_whole_files_only(tmp_path):
    largest = 200_000  # bytes a file may have: enough for a part of 2 steps, too few for one of 50
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        (small,) = simulate(tmp_path, trajectories=1, steps=2, seed=1)
        with pytest.raises(SimulationError, match="could not be written"):
            simulate(tmp_path, trajectories=1, steps=60, seed=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [small]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"trajectories": 0}, "trajectories"),
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"peg": "star"}, "star"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_made(tmp_path, changed, named):
    out = tmp_path / "new"
    with pytest.raises(SimulationError, match=named):
        simulate(out, **{"trajectories": 1, "steps": 1, "seed": 0, **changed})
    assert not out.exists()


def test_a_mujoco_that_is_too_old_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mujoco, "__version__", "3.8.1")
    with pytest.raises(SimulationError, match=r"3\.15 or newer, found 3\.8\.1"):
        simulate(tmp_path, trajectories=1, steps=1, seed=0)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    out = tmp_path / "taken"
    out.write_text("mine")
    with pytest.raises(SimulationError, match=re.escape(str(out))):
        simulate(out, trajectories=1, steps=1, seed=0)
    assert out.read_text() == "mine"
