"""Attempts to insert a peg over topics: the robot is a process, and the policy is this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from time import monotonic, time_ns
from typing import Any, NamedTuple

import numpy as np
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from smvae_ros.msg import VectorStamped

from benchmarks.insertion import DEEP_M, LIMIT_S, REACH_M, Condition, Outcome, Task, begins, failure_s, next_action
from benchmarks.pose_filter import PoseFilter
from benchmarks.pose_head import POSE
from benchmarks.topic_readings import Readings
from smvae_core.simulation.policy import PegPolicy
from smvae_ros.conversions.arrays import fill_twist, stamp_ns
from smvae_ros.demo.audience import SENSORS

_PATIENCE_S = 150.0
_STEP_NS = 50_000_000
_CLOSE_M = 1e-4
"""How close to its start, in metres and radians, the tip is when an attempt begins."""
_KEPT = 40
"""Commands that are kept to follow the tip from a reading's stamp on: two seconds of them."""
_LATE_S = 0.045
"""The policy waits so long for a reading, from one command to the next; then it goes by its commands alone."""


class Timing(NamedTuple):
    """How far an attempt was from real time.

    Attributes:
        delay_s: median of the time from a reading's stamp to the command that follows from it.
        skipped_s: time that the robot left out because the machine was too slow.
    """

    delay_s: float
    skipped_s: float


class Tracker:
    """The pose that a policy goes by, of readings that come late and of the commands that the arm carries out.

    A reading holds for its stamp. From there the pose follows the commands that began since.
    """

    def __init__(self) -> None:
        self._filter = PoseFilter()
        self._commands: deque[tuple[int, np.ndarray]] = deque(maxlen=_KEPT)
        self._stamp_ns = 0
        self.touching = False

    def carried_out(self, stamp_ns: int, command: np.ndarray) -> None:
        """Take note of a command (4,) that the arm carries out for 50 ms from a stamp on."""
        self._commands.append((stamp_ns, command))

    def read(self, stamp_ns: int, reading: np.ndarray) -> np.ndarray:
        """Take pose, probability of a contact and σ, (9,), as of a stamp; return the pose that results for it, (4,)."""
        # A command belongs to the time before a stamp when it has been carried out by more than half until then.
        self._move(self._filter, self._stamp_ns, stamp_ns)
        self._stamp_ns = stamp_ns
        self._filter.read(reading[:POSE], reading[POSE + 1 :])
        self.touching = bool(reading[POSE] > 0.5)
        return self._filter.pose

    def ahead(self) -> PoseFilter:
        """Return what will be known of the pose when all commands have been carried out that have begun."""
        ahead = deepcopy(self._filter)
        self._move(ahead, self._stamp_ns, None)
        return ahead

    def _move(self, known: PoseFilter, after_ns: int, until_ns: int | None) -> None:
        for begun_ns, command in self._commands:
            middle_ns = begun_ns + _STEP_NS // 2
            if after_ns < middle_ns and (until_ns is None or middle_ns <= until_ns):
                known.move(command, self.touching)


class Pilot(Node):
    """Moves the simulated robot by readings of the peg's pose.

    Args:
        namespace: of the robot.
        readings: makes what reads them, of this node.
        checks: raise when a process has ended that the attempts need.
    """

    def __init__(
        self, namespace: str, readings: Callable[[Node], Readings], checks: Sequence[Callable[[], None]]
    ) -> None:
        super().__init__("pilot", namespace=namespace)
        self._checks = checks
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._tips: deque[tuple[int, np.ndarray]] = deque()
        self._tracker = Tracker()
        self._commands = self.create_publisher(TwistStamped, "command", QoSProfile(depth=1))
        self._set = self.create_client(SetParameters, "robot/set_parameters")
        self.create_subscription(VectorStamped, "robot/truth/tip", self._take_tip, QoSProfile(depth=100))
        self.create_subscription(TwistStamped, "action", self._take_action, qos_profile_sensor_data)
        self._readings = readings(self)

    def close(self) -> None:
        """Give up everything that was subscribed to."""
        self._readings.close()
        self._executor.shutdown()
        self.destroy_node()  # type: ignore[no-untyped-call]

    def settle(self, readings: int) -> None:
        """Wait for so many readings, by which what makes them runs as it will."""
        self._wait(
            lambda: len(self._readings.waiting) >= readings and self._set.service_is_ready(), f"{readings} readings"
        )

    def attempt(self, condition: Condition, seed: int, task: Task) -> tuple[Outcome, Timing]:
        """Make one attempt; give up after `LIMIT_S` of the robot's time.

        Start, guess of where the hole is, and moment of the fault are those of the seed in lock-step time.
        """
        policy = PegPolicy(np.random.default_rng([seed, 1]))
        self._begin(seed, policy.start_pose())
        waiting = self._readings.waiting
        began_ns, fails_at_s = waiting[0].stamp_ns, failure_s(seed)
        failed = touched = reached = False
        acted, truth = monotonic(), dict(self._tips)
        read: dict[int, np.ndarray] = {}
        delays: list[float] = []
        while True:
            self._wait(lambda: bool(waiting or self._tips), "a reading, or the truth")
            while self._tips:
                at_ns, tip = self._tips.popleft()
                truth[at_ns] = tip
                seconds = (at_ns - began_ns) / 1e9
                if not failed and begins(condition, policy.phase, seconds, fails_at_s):
                    self._fail({SENSORS[name]: condition.fault for name in condition.sensors})
                    failed = True
                if seconds <= 0.0:
                    continue
                if tip[POSE] > 0.5 and not touched:
                    touched, reached = True, bool(np.linalg.norm(tip[:2]) < REACH_M)
                inserted = task is Task.INSERTION and bool(-tip[2] > DEEP_M)
                if inserted or (touched and task is Task.CONTACT) or seconds >= LIMIT_S:
                    outcome = Outcome(inserted, reached, seconds, _error_mm(read, truth))
                    return outcome, Timing(float(np.median(delays)) if delays else np.nan, _skipped_s(truth))
            if not waiting and monotonic() < acted + _LATE_S:
                continue
            newest_ns = waiting[-1].stamp_ns if waiting else None
            while waiting:
                reading = waiting.popleft()
                read[reading.stamp_ns] = self._tracker.read(reading.stamp_ns, reading.values)
            message = TwistStamped()
            fill_twist(message, next_action(policy, self._tracker.ahead(), self._tracker.touching))
            self._commands.publish(message)
            acted = monotonic()
            if newest_ns is not None:
                delays.append((time_ns() - newest_ns) / 1e9)

    def _begin(self, seed: int, start: np.ndarray) -> None:
        """Mend all sensors, put the arm at a seed's start, and forget the attempt before."""
        self._tips.clear()
        self._fail({}, seed=seed)
        # Only the first tip is there: soon the wrist has settled by a milliradian or two under its load.
        self._wait(lambda: any(_is_at(tip, start) for _, tip in self._tips), f"the tip at {start}")
        # At once: a camera whose pictures stay the same, because the arm stands still, is soon distrusted.
        for answer in self._readings.forget():
            self._wait(answer.done, "an answer to the call to forget")
        forgot_ns = time_ns()
        self._tracker = Tracker()
        self._tips.clear()
        self._wait(lambda: self._has_whole_set(forgot_ns), "a reading of a whole set")

    def _has_whole_set(self, after_ns: int) -> bool:
        """Whether the oldest reading is of a whole set after a moment; older ones, and those of parts, are left out."""
        waiting = self._readings.waiting
        while waiting and not (waiting[0].stamp_ns > after_ns and waiting[0].modalities == self._readings.whole):
            waiting.popleft()
        return bool(waiting)

    def _fail(self, faults: dict[str, str], **others: Any) -> None:
        """Give the robot's sensors their faults, or none, and set its other parameters."""
        values = {f"{sensor}.fault": faults.get(sensor, "none") for sensor in SENSORS.values()} | others
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answer = self._set.call_async(SetParameters.Request(parameters=parameters))
        self._wait(answer.done, f"an answer of {self._set.srv_name}")

    def _wait(self, ready: Callable[[], bool], wanted: str) -> None:
        deadline = monotonic() + _PATIENCE_S
        while not ready():
            for check in self._checks:
                check()
            if monotonic() > deadline:
                raise RuntimeError(f"waited {_PATIENCE_S:g} s for {wanted}")
            self._executor.spin_once(timeout_sec=0.1)

    def _take_tip(self, message: VectorStamped) -> None:
        self._tips.append((stamp_ns(message), np.array(message.values)))

    def _take_action(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._tracker.carried_out(stamp_ns(message), np.array([linear.x, linear.y, linear.z, angular.z]))


def _is_at(tip: np.ndarray, start: np.ndarray) -> bool:
    return bool(np.abs(tip[:POSE] - start).max() < _CLOSE_M)


def _error_mm(read: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> float:
    """Return the root mean square error across the hole's axis, of poses by stamp, against the true ones of then."""
    stamps = np.array(sorted(truth))
    tips = np.stack([truth[at][:2] for at in stamps])
    errors = []
    for at, pose in read.items():
        true = [np.interp(at - stamps[0], stamps - stamps[0], tips[:, axis]) for axis in range(2)]
        errors.append(np.square(pose[:2] - true).sum())
    return 1e3 * float(np.sqrt(np.mean(errors))) if errors else float("nan")


def _skipped_s(truth: dict[int, np.ndarray]) -> float:
    return float((np.diff(sorted(truth)) - _STEP_NS).clip(0).sum()) / 1e9
