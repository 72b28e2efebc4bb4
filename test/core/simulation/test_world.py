"""The physics and the camera of the peg world: what touches, how hard, and how far away things are."""

import numpy as np
import pytest

from smvae_core.simulation.policy import PegPolicy, Phase
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import BOX_HEIGHT, HOLE_DEPTH, PEGS
from smvae_core.simulation.world import PegWorld, SimulationError

pytestmark = pytest.mark.rendering

DOWN, UP, STILL = np.array([0, 0, -0.003, 0]), np.array([0, 0, 0.005, 0]), np.zeros(4)
LOOK = SceneLook()


@pytest.fixture
def world():
    """A triangle peg in the fixed scene."""
    with PegWorld("triangle", LOOK, np.random.default_rng(0)) as opened:
        yield opened


def project(point: np.ndarray) -> tuple[int, int, float]:
    """Row, column and depth (metres along the optical axis) of a world point in the fixed scene's picture."""
    eye, target = np.array(LOOK.camera_position), np.array(LOOK.camera_target)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    depth = (point - eye) @ forward
    focal = 64 / np.tan(np.radians(LOOK.camera_fov) / 2)
    up, aside = (point - eye) @ np.cross(right, forward), (point - eye) @ right
    return int(64 - focal * up / depth), int(64 + focal * aside / depth), depth


def test_pressing_on_the_lid_is_felt_and_flagged_and_lifting_ends_it(world):
    world.reset(np.array([0.04, 0.03, 0.002, 0.1]))
    for _ in range(8):
        pressed = world.step(DOWN)
    assert pressed.contact.all()
    assert pressed.wrench[:, 2].min() > 2.0 and pressed.wrench[:, 2].max() < 10.0
    for _ in range(8):
        lifted = world.step(UP)
    for _ in range(4):
        lifted = world.step(STILL)
    assert not lifted.contact.any()
    assert np.abs(lifted.wrench[:, :3]).max() < 0.5


def test_the_force_answers_within_milliseconds_of_the_contact_flag(world):
    world.reset(np.array([0.04, 0.03, 0.008, 0.0]))
    seen = [world.step(DOWN) for _ in range(8)]
    contact = np.concatenate([o.contact for o in seen])
    force = np.concatenate([o.wrench for o in seen])[:, 2]
    first = int(contact.argmax())
    assert contact.any() and first > 50
    assert np.abs(force[:first]).max() < 0.5
    assert force[first : first + 20].max() > 1.0


def test_pushing_on_the_wall_of_the_hole_is_felt_sideways(world):
    world.reset(np.array([0, 0, -0.02, 0]))
    for _ in range(6):
        seen = world.step(np.array([0.003, 0, 0, 0]))
    assert seen.contact.all()
    assert seen.wrench[-1, 0] < -1.0, "the wall pushes back"
    assert abs(world.pose()[0]) < 0.005


def test_free_motion_follows_the_command(world):
    start = world.reset(np.array([-0.05, 0.05, 0.08, 0.0]))
    command = np.array([0.004, -0.003, 0.002, 0.02])
    for _ in range(20):
        world.step(command)
    assert (world.pose() - start) / 20 == pytest.approx(command, rel=0.3)


@pytest.mark.parametrize("peg", PEGS)
def test_the_policy_inserts_again_and_again_gently(peg):
    rng = np.random.default_rng(2)
    with PegWorld(peg, LOOK, rng) as world:
        policy = PegPolicy(rng)
        world.reset(policy.start_pose())
        depths, wrenches, phases, contact = [], [], set(), False
        for _ in range(400):
            seen = world.step(policy.act(world.pose(), contact))
            contact = bool(seen.contact.any())
            phases.add(policy.phase)
            depths.append(-world.pose()[2])
            wrenches.append(seen.wrench)
    assert phases == set(Phase)
    inside = np.array(depths) > 0.9 * HOLE_DEPTH
    assert (np.diff(inside.astype(int)) == 1).sum() >= 2
    largest = np.abs(wrenches).max(axis=(0, 1))
    assert largest[:3].max() < 15.0 and largest[3:].max() < 1.5


def test_depth_is_the_distance_along_the_optical_axis(world):
    world.reset(np.array([-0.08, 0.08, 0.13, 0.0]))
    depth = world.step(STILL).depth[:, :, 0]
    x, y = LOOK.hole
    table = [(x + 0.1, y + 0.1, 0.0), (x - 0.05, y - 0.15, 0.0), (x - 0.12, y - 0.18, 0.0), (x + 0.05, y + 0.15, 0.0)]
    lid = [(x + 0.05, y - 0.05, BOX_HEIGHT), (x + 0.06, y + 0.04, BOX_HEIGHT)]
    for point in np.array(table + lid):
        row, column, expected = project(point)
        assert depth[row, column] == pytest.approx(expected, abs=0.006), "half a pixel's slope"


def test_the_wall_is_beyond_the_sensors_range_and_the_rest_is_not(world):
    world.reset(np.array([0.0, 0.0, 0.05, 0.0]))
    depth = world.step(STILL).depth[:, :, 0]
    assert np.isfinite(depth).all()
    assert depth[2, 45] >= 2.0
    assert 0.05 < (depth >= 2.0).mean() < 0.4
    assert depth.min() > 0.5


def test_the_start_pose_is_reached_over_the_whole_volume(world):
    policy = PegPolicy(np.random.default_rng(3))
    for pose in [policy.start_pose() for _ in range(20)]:
        assert world.reset(pose) == pytest.approx(pose, abs=1e-5)


@pytest.mark.parametrize("platform", ["glx", "none"])
def test_another_way_to_draw_that_there_is_not_is_named_with_its_cure(monkeypatch, platform):
    monkeypatch.setenv("MUJOCO_GL", platform)
    with pytest.raises(SimulationError, match=f"cannot draw .*: .*Without MUJOCO_GL={platform} in the environment it "):
        PegWorld("triangle", LOOK, np.random.default_rng(0))


def test_an_empty_choice_is_none(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    with PegWorld("triangle", LOOK, np.random.default_rng(0)) as opened:
        assert opened.picture()[0].shape == (128, 128, 3)
