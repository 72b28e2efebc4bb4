"""The closed loop over topics: what is known of a tip whose readings are late, and an attempt with real processes."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from smvae_ros.msg import VectorStamped

ROOT = Path(__file__).parents[3]
# The root of the repository is not among the places that Python imports from, and may only be the last of them.
sys.path.append(str(ROOT))
from benchmarks.insertion import CONDITIONS, Condition, Outcome, Task  # noqa: E402
from benchmarks.insertion_topics import Pilot, Timing, Tracker  # noqa: E402
from benchmarks.pose_filter import PoseFilter  # noqa: E402
from benchmarks.topic_readings import NodeReadings, SetReadings  # noqa: E402

sys.path.remove(str(ROOT))

from smvae_core.modality import vision_touch_modalities  # noqa: E402
from smvae_ros.conversions.arrays import stamp_ns  # noqa: E402
from smvae_ros.demo.executable import running  # noqa: E402

from ..robot import own_domain  # noqa: E402

STEP_NS = 50_000_000
STEPS = 12
SIGMA = np.full(4, 1e-3)


def reading(number: int) -> np.ndarray:
    return np.array([0.02 - 0.001 * number, 0.01, 0.05, 0.1, 0.0, *np.full(4, 0.002)])


def command(number: int) -> np.ndarray:
    return np.array([-0.001, 0.0002 * number, 0.0, 0.0])


def test_late_readings_tell_what_the_same_readings_in_time_would() -> None:
    in_time, late = PoseFilter(), Tracker()
    for number in range(STEPS):
        in_time.read(reading(number)[:4], reading(number)[5:])
        in_time.move(command(number), touching=False)
    # All commands first; then all readings, whose stamps are a little off those of the commands, as a tick's are.
    for number in range(STEPS):
        late.carried_out(number * STEP_NS, command(number))
    for number in range(STEPS):
        late.read(number * STEP_NS + (number % 3 - 1) * STEP_NS // 5, reading(number))
    assert late.ahead().pose == pytest.approx(in_time.pose, abs=1e-12)
    assert late.ahead().sigma == pytest.approx(in_time.sigma, abs=1e-12)
    assert not late.touching


def test_without_readings_the_tip_follows_the_commands_and_is_less_and_less_sure() -> None:
    tracker = Tracker()
    tracker.read(0, reading(0))
    before = tracker.ahead()
    for number in range(5):
        tracker.carried_out(number * STEP_NS, np.array([-0.002, 0.0, 0.0, 0.0]))
    assert tracker.ahead().pose[0] == pytest.approx(before.pose[0] - 0.01)
    assert (tracker.ahead().sigma > before.sigma).all()


class Tips:
    """The true poses of a topic, as readings."""

    def __init__(self, node: Node) -> None:
        self._tips: dict[int, np.ndarray] = {}
        node.create_subscription(VectorStamped, "robot/truth/tip", self._take, 10)

    def _take(self, message: VectorStamped) -> None:
        self._tips[stamp_ns(message)] = np.array(message.values)

    def reading(self, at_ns: int) -> np.ndarray:
        stamps = list(self._tips) or [0]
        tips = np.stack(list(self._tips.values()) or [np.full(5, np.nan)])
        return np.array(
            [*(np.interp(at_ns - stamps[0], np.subtract(stamps, stamps[0]), row) for row in tips.T), *SIGMA]
        )


class Latents(NodeReadings):
    """Reads the true pose as each latent comes, and notes what the latents were of."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, None)
        self._tips, self.seen = Tips(node), []

    def _values(self, latent) -> np.ndarray:
        self.seen.append(set(latent.modalities))
        return self._tips.reading(stamp_ns(latent))


class Sets(SetReadings):
    """Reads the true pose as each set comes, and notes what the sets held."""

    def __init__(self, node: Node) -> None:
        self._tips, self.seen = Tips(node), []
        super().__init__(node, vision_touch_modalities(), self)

    def begin(self, attempts: int) -> None:
        self.seen.clear()

    def _take(self, sample_set) -> None:
        self.stamp_ns = sample_set.stamp_ns
        super()._take(sample_set)

    def read(self, attempts, arrays, truth) -> np.ndarray:
        self.seen.append({name: array.shape for name, array in arrays[0].items()})
        return self._tips.reading(self.stamp_ns)[None]


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with own_domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        yield number


@pytest.mark.rendering
def test_attempts_end_at_the_contact_or_in_the_hole_and_the_camera_stays_unplugged(domain: int, tmp_path: Path) -> None:
    namespace = f"/topics_{os.getpid()}"
    conditions = {one.name: one for one in CONDITIONS}
    with running("simulated_robot", namespace, {"policy": "commands"}, tmp_path / "robot") as robot_runs:
        rclpy.init(domain_id=domain)
        try:
            with running("fusion_node", namespace, {"backend": "eager"}, tmp_path / "node") as node_runs:
                checks, aligning = (robot_runs, node_runs), conditions["camera unplugged while aligning"]
                outcome, timing, latents = attempt(namespace, Latents, checks, aligning, Task.CONTACT)
            searching = conditions["camera unplugged while searching"]
            inserted, _, sets = attempt(namespace, Sets, (robot_runs,), searching, Task.INSERTION)
        finally:
            rclpy.shutdown()
    assert outcome.reached and not outcome.inserted
    assert 0.5 < outcome.seconds < 20.0
    assert timing.delay_s > 0.0
    assert latents[-1] and "rgb" not in latents[-1]
    assert inserted.inserted and inserted.reached and inserted.seconds > outcome.seconds
    assert sets[0] == {"rgb": (3, 64, 64), "depth": (1, 64, 64), "force": (6, 32)}
    assert set(sets[-1]) == {"depth", "force"}


def attempt(
    namespace: str, readings: type, checks: Sequence[Callable[[], None]], condition: Condition, task: Task
) -> tuple[Outcome, Timing, list]:
    pilot = Pilot(namespace, readings, checks)
    try:
        pilot.settle(2)
        made, seen = pilot.attempt(condition, 0, task), pilot._readings.seen
        # An attempt may end before the camera counts as silent. It stays unplugged, and sets go on without it.
        pilot._wait(lambda: "rgb" not in seen[-1], "a set without the camera")
        return *made, seen
    finally:
        pilot.close()
