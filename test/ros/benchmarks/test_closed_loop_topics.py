"""The closed loop over topics: what is known of a tip whose readings are late, and an attempt with real processes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy

ROOT = Path(__file__).parents[3]
# The root of the repository is not among the places that Python imports from, and may only be the last of them.
sys.path.append(str(ROOT))
from benchmarks.insertion import CONDITIONS  # noqa: E402
from benchmarks.insertion_topics import Pilot, Tracker  # noqa: E402
from benchmarks.pose_filter import PoseFilter  # noqa: E402

sys.path.remove(str(ROOT))

from smvae_ros.demo.executable import running  # noqa: E402

from ..robot import own_domain  # noqa: E402

STEP_NS = 50_000_000
STEPS = 12


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


class Truth(Pilot):
    """Reads the true pose as of each latent's stamp, and notes what the latents were of."""

    def _take_tip(self, message) -> None:
        super()._take_tip(message)
        self.newest = np.array(message.values)

    def _reading(self, latent) -> np.ndarray:
        self.seen = [*getattr(self, "seen", []), tuple(latent.modalities)]
        return np.array([*self.newest, *np.full(4, 1e-3)])


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with own_domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        yield number


@pytest.mark.rendering
def test_an_attempt_ends_at_the_contact_and_the_camera_stays_unplugged(domain: int, tmp_path: Path) -> None:
    namespace = f"/topics_{os.getpid()}"
    (condition,) = (one for one in CONDITIONS if one.name == "camera unplugged while aligning")
    with (
        running("simulated_robot", namespace, {"policy": "commands"}, tmp_path / "robot") as robot_runs,
        running("fusion_node", namespace, {"backend": "eager"}, tmp_path / "node") as node_runs,
    ):
        rclpy.init(domain_id=domain)
        pilot = Truth(namespace, None, (robot_runs, node_runs))
        try:
            pilot.settle(2)
            outcome, timing = pilot.attempt(condition, 0)
        finally:
            pilot.close()
            rclpy.shutdown()
    assert outcome.reached and not outcome.inserted
    assert 0.5 < outcome.seconds < 20.0
    assert timing.delay_s > 0.0
    assert set(pilot.seen[0]) == {"rgb", "depth", "force", "action"}
    assert "rgb" not in pilot.seen[-1]
