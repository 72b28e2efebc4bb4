"""The robot without ROS 2: its clock, its rates, its commands."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from smvae_core.simulation.policy import PegPolicy
from smvae_ros.simulated_robot.robot import LATE_NS, WRONG_STAMP_NS, CommandError, Sample, SimulatedRobot

pytestmark = pytest.mark.rendering

PATIENCE_S = 60.0


class Heard:
    """Everything that a robot brought, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.stamps: dict[str, list[int]] = defaultdict(list)
        self.values: dict[str, np.ndarray] = {}
        self.now_ns: dict[str, list[int]] = defaultdict(list)
        self.truths: dict[str, np.ndarray] = {}
        self.ticks: list[int] = []
        self._changed = threading.Condition()

    def take(self, sample: Sample) -> None:
        with self._changed:
            self.stamps[sample.sensor].append(sample.stamp_ns)
            self.now_ns[sample.sensor].append(self.ticks[-1] if self.ticks else sample.stamp_ns)
            self.values[sample.sensor] = sample.value
            self._changed.notify_all()

    def take_truth(self, sample: Sample) -> None:
        self.truths[sample.sensor] = sample.value

    def tick(self, now_ns: int) -> None:
        with self._changed:
            self.ticks.append(now_ns)
            self._changed.notify_all()

    def wait_for(self, sensor: str, count: int) -> None:
        with self._changed:
            wanted = len(self.stamps[sensor]) + count
            assert self._changed.wait_for(lambda: len(self.stamps[sensor]) >= wanted, PATIENCE_S), (
                f"{count} of {sensor}"
            )


@pytest.fixture(params=[False])
def started(request: pytest.FixtureRequest) -> Iterator[tuple[SimulatedRobot, Heard]]:
    heard = Heard()
    robot = SimulatedRobot(heard.take, heard.take_truth, heard.tick, follow=request.param)
    robot.start()
    yield robot, heard
    robot.stop()
    assert robot.error is None


def test_every_sensor_keeps_its_rate_in_the_robots_own_time(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    heard.wait_for("rgb", 20)
    robot.stop()
    skipped = robot.skipped_ns
    for sensor, rate in (("rgb", 20), ("depth", 20), ("wrench", 1000), ("joints", 100), ("action", 20)):
        stamps = heard.stamps[sensor]
        assert stamps == sorted(stamps)
        gaps = Counter(np.diff(stamps).tolist())
        assert gaps[1_000_000_000 // rate] == len(stamps) - 1 or skipped, sensor


def test_pictures_and_numbers_are_those_of_the_scene(started: tuple[SimulatedRobot, Heard]) -> None:
    _, heard = started
    heard.wait_for("depth", 2)
    assert heard.values["rgb"].shape == (128, 128, 3)
    assert heard.values["rgb"].std() > 10
    assert 0.5 < np.median(heard.values["depth"]) < 3.0
    assert [heard.values[name].shape for name in ("wrench", "joints", "action")] == [(6,), (14,), (4,)]


def test_the_truth_is_told_whatever_the_cameras_bring(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    robot.sensors.rgb.fault = "blank"
    heard.wait_for("rgb", 2)
    robot.stop()
    assert not heard.values["rgb"].any()
    assert heard.truths["rgb"].std() > 10
    assert np.array_equal(heard.truths["depth"], heard.values["depth"])


def test_a_rate_of_zero_silences_a_sensor_and_nothing_else(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    heard.wait_for("rgb", 1)
    robot.rates.rgb = 0.0
    heard.wait_for("depth", 1)
    before = len(heard.stamps["rgb"])
    heard.wait_for("depth", 5)
    assert len(heard.stamps["rgb"]) == before


def test_late_messages_keep_their_stamps_and_wrong_stamps_arrive_in_time(
    started: tuple[SimulatedRobot, Heard],
) -> None:
    robot, heard = started
    robot.sensors.rgb.fault, robot.sensors.depth.fault = "late", "wrong_stamp"
    heard.wait_for("rgb", 3)
    heard.wait_for("depth", 3)
    assert heard.now_ns["rgb"][-1] - heard.stamps["rgb"][-1] >= LATE_NS - 10_000_000
    assert heard.stamps["depth"][-1] - heard.now_ns["depth"][-1] == pytest.approx(WRONG_STAMP_NS, abs=10_000_000)


def at_rest(tip: np.ndarray, pose: np.ndarray) -> None:
    """The tip is at a pose without contact; the wrist settles by a milliradian or two under its load."""
    np.testing.assert_allclose(tip[:3], pose[:3], atol=1e-3)
    assert tip[3] == pytest.approx(pose[3], abs=5e-3) and tip[4] == 0.0


@pytest.mark.parametrize("started", [True], indirect=True)
def test_a_seed_begins_anew_and_the_tip_tells_what_commands_do(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    first = PegPolicy(np.random.default_rng([0, 1])).start_pose()
    heard.wait_for("action", 1)
    at_rest(heard.truths["tip"], first)
    for _ in range(200):
        aside = np.array([0.03, 0.0]) - heard.truths["tip"][:2]
        down = -0.01 if np.abs(aside).max() < 0.01 else 0.0
        robot.command(np.array([*aside.clip(-0.01, 0.01), down, 0.0]))
        heard.wait_for("action", 1)
        if heard.truths["tip"][4]:
            break
    assert heard.truths["tip"][4] == 1.0, "the peg is on the box"
    assert heard.truths["tip"][2] < first[2] - 0.01
    robot.begin(7)
    heard.wait_for("action", 2)
    start = PegPolicy(np.random.default_rng([7, 1])).start_pose()
    at_rest(heard.truths["tip"], start)


@pytest.mark.parametrize("started", [True], indirect=True)
def test_it_carries_out_commands_and_stands_still_without_them(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    heard.wait_for("action", 2)
    assert not heard.values["action"].any()
    command = np.array([0.0, 0.0, 0.002, 0.0])
    moved = False
    for _ in range(200):
        robot.command(command)
        heard.wait_for("action", 1)
        moved = moved or np.array_equal(heard.values["action"], command)
        if moved:
            break
    assert moved
    heard.wait_for("action", 4)
    assert not heard.values["action"].any(), "the last command is over"


@pytest.mark.parametrize("started", [True], indirect=True)
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (np.nan, "finite numbers"),
        (np.inf, "finite numbers"),
        (1e9, "at most 0.02 m and 0.2 rad for 50 ms"),
        (-0.03, "at most 0.02 m and 0.2 rad for 50 ms"),
    ],
)
def test_a_command_that_no_arm_should_follow_is_refused(
    started: tuple[SimulatedRobot, Heard], bad: float, expected: str
) -> None:
    robot, heard = started
    robot.command(np.array([0.001, 0.0, 0.0, 0.0]))
    with pytest.raises(CommandError, match=f"expected {expected}, found .*; the robot stands still"):
        robot.command(np.array([bad, 0.0, 0.0, 0.0]))
    heard.wait_for("action", 2)
    assert not heard.values["action"].any()


@pytest.mark.parametrize("started", [True], indirect=True)
def test_a_command_to_tilt_is_refused_since_the_tool_stays_upright(started: tuple[SimulatedRobot, Heard]) -> None:
    robot, heard = started
    for tilt in ([np.nan, 0.0], [0.0, 1e9], [0.01, 0.0]):
        robot.command(np.array([0.001, 0.0, 0.0, 0.0]), tilt=np.zeros(2))
        with pytest.raises(CommandError, match="expected 0 for angular.x and angular.y, .*; the robot stands still"):
            robot.command(np.array([0.001, 0.0, 0.0, 0.0]), tilt=np.array(tilt))
    heard.wait_for("action", 2)
    assert not heard.values["action"].any()
