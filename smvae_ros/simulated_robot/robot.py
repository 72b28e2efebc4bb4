"""The robot without ROS 2: the simulated world in real time, and what its sensors bring at which moment."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from time import monotonic_ns, time_ns

import numpy as np

from smvae_core.errors import SMVAEError
from smvae_core.simulation.policy import PegPolicy
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import Peg
from smvae_core.simulation.world import PegWorld
from smvae_ros.simulated_robot.faults import LATE_NS, WRONG_STAMP_NS, ImageSensor, NumberSensor

COMMAND_NS = 50_000_000
"""A command is carried out in so much time; without a new one the robot then stands still."""
MOST_TRANSLATION, MOST_ROTATION = 0.02, 0.2
"""Largest command in 50 ms: metres in each direction, radians of yaw."""

_TICK_NS = 5_000_000
_MILLISECOND_NS = 1_000_000
# Further behind the clock than this, the robot does not catch up.
_MOST_LAG_NS = 200_000_000
_JOINT_BIAS, _ACTION_BIAS = 0.1, 0.005


class CommandError(SMVAEError):
    """A command that the robot does not carry out.

    Attributes:
        expected: what every command must be.
    """

    def __init__(self, expected: str, found: np.ndarray) -> None:
        super().__init__(
            f"command: expected {expected}, found {np.array2string(found, precision=3)}; the robot stands still"
        )
        self.expected = expected


@dataclass
class Rates:
    """Messages per second of each sensor."""

    rgb: float = 20.0
    depth: float = 20.0
    wrench: float = 1000.0
    joints: float = 100.0


@dataclass(frozen=True)
class Sample:
    """The value that one sensor brings at one moment.

    Attributes:
        sensor: rgb, depth, wrench, joints or action; of truths also tip.
        stamp_ns: as the sensor claims it.
        value: uint8 (H, W, 3) RGB; float32 (H, W), metres; float64 (6,), N and N·m; (14,), the positions and velocities
            of seven joints in rad and rad/s; (4,), the command in m and rad for 50 ms; (5,), x, y, z in m and yaw in
            rad of the peg's tip relative to the hole's mouth, and 1 if the peg touched the box in the last 50 ms, else
            0.
    """

    sensor: str
    stamp_ns: int
    value: np.ndarray


@dataclass
class Sensors:
    """The robot's sensors, whose faults may be changed while it runs."""

    rng: np.random.Generator
    rgb: ImageSensor = field(init=False)
    depth: ImageSensor = field(init=False)
    wrench: NumberSensor = field(init=False)
    joints: NumberSensor = field(init=False)
    action: NumberSensor = field(init=False)

    def __post_init__(self) -> None:
        self.rgb, self.depth = ImageSensor(self.rng), ImageSensor(self.rng)
        self.wrench = NumberSensor(self.rng, np.array([5.0, -5.0, 5.0, 0.3, -0.3, 0.3]))
        self.joints = NumberSensor(self.rng, np.full(14, _JOINT_BIAS))
        self.action = NumberSensor(self.rng, np.full(4, _ACTION_BIAS))

    def named(self, name: str) -> ImageSensor | NumberSensor:
        """Return the sensor of that name."""
        sensor: ImageSensor | NumberSensor = getattr(self, name)
        return sensor


class SimulatedRobot:
    """An arm that inserts a peg, over and over, or follows commands, in real time.

    Stamps are the machine's clock. Where the machine is too slow for real time, the stamps jump ahead and `skipped_ns`
    counts by how much.

    Args:
        deliver: called from the robot's thread with each sample when it arrives, in the order of arrival.
        deliver_truth: called with each picture as it would be without fault or noise, whatever the cameras bring, and
            every 50 ms with the `tip`.
        on_tick: called from the robot's thread every 5 ms, with the stamp of now in nanoseconds.
        follow: carry out the commands that `command` takes instead of the scripted policy's.
        seed: of every random choice, as for `begin`.
        peg: cross-section of peg and hole.

    Attributes:
        sensors: whose faults may be set at any time.
        rates: of the sensors; may be changed at any time.
        frames: where the links and the tool are in the world, as of the newest camera picture.
        error: why the robot's thread ended by itself; None while it runs.
    """

    def __init__(
        self,
        deliver: Callable[[Sample], None],
        deliver_truth: Callable[[Sample], None],
        on_tick: Callable[[int], None],
        *,
        follow: bool = False,
        seed: int = 0,
        peg: Peg = "triangle",
    ) -> None:
        self.sensors = Sensors(np.random.default_rng([seed, 3]))
        self.rates = Rates()
        self.skipped_ns = 0
        self.error: BaseException | None = None
        self.frames: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._deliver, self._deliver_truth, self._on_tick, self._follow = deliver, deliver_truth, on_tick, follow
        self._start_ns = 0
        self._peg = peg
        self._seeds = deque([seed])
        self._command: tuple[np.ndarray, int] | None = None
        self._late: list[tuple[int, int, Sample]] = []
        self._order = count()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated robot")

    def start(self) -> None:
        """Build the scene and begin.

        Raises:
            SimulationError: MuJoCo is not installed, or it cannot draw off-screen.
        """
        self._thread.start()
        self._ready.wait()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End the robot's thread and give its OpenGL context back."""
        self._stop.set()
        self._thread.join()

    def command(self, action: np.ndarray, tilt: np.ndarray | None = None) -> None:
        """Take a command (dx, dy, dz in metres, dyaw in radians, (4,)) to be carried out in the next 50 ms.

        Args:
            action: the command.
            tilt: rotation about x and y that comes with it, (2,); the arm has none.

        Raises:
            CommandError: a value that is not finite or too large, or a tilt; the robot stands still until the next
                command.
        """
        if (refused := _refused(action, tilt)) is not None:
            self._command = None
            raise refused
        self._command = (action, monotonic_ns())

    def begin(self, seed: int) -> None:
        """Put the arm at rest over the box within 50 ms, at the random pose of a seed.

        The scripted policy begins anew; the same seed gives the same pose, the same policy and the same noise of the
        wrist sensor. Commands of before are forgotten.
        """
        self._seeds.append(seed)

    def _run(self) -> None:
        try:
            # The OpenGL context belongs to the thread that makes it.
            with PegWorld(self._peg, SceneLook(), np.random.default_rng(0)) as world:
                self._begin(world)
                self._ready.set()
                self._live(world)
        except BaseException as error:  # whoever watches the robot must learn why it ended
            self.error = error
        finally:
            self._ready.set()

    def _begin(self, world: PegWorld) -> None:
        seed = self._seeds.popleft()
        self._policy = PegPolicy(np.random.default_rng([seed, 1]))
        self._command = None
        world.reset(self._policy.start_pose(), np.random.default_rng([seed, 2]))

    def _live(self, world: PegWorld) -> None:
        self._start_ns = time_ns()
        began, elapsed, touched = monotonic_ns(), 0, False
        while not self._stop.is_set():
            if elapsed % COMMAND_NS == 0:
                if self._seeds:
                    self._begin(world)
                    touched = False
                tip = np.append(world.pose(), float(touched))
                self._deliver_truth(Sample("tip", self._start_ns + elapsed, tip))
                action = self._next_command(world, touched)
                world.command(action)
                self._bring("action", self._start_ns + elapsed, self.sensors.action.measure(action))
                touched = False
            wrench, contact = world.advance(_TICK_NS // _MILLISECOND_NS)
            touched |= contact
            before, elapsed = elapsed, elapsed + _TICK_NS
            self._bring_wrench(before, wrench)
            if _due(before, elapsed, self.rates.joints):
                self._bring("joints", self._start_ns + elapsed, self.sensors.joints.measure(np.hstack(world.joints())))
            self._bring_pictures(world, before, elapsed)
            self._on_tick(self._start_ns + elapsed)
            self._bring_late(self._start_ns + elapsed)
            lag = monotonic_ns() - began - elapsed
            if lag > _MOST_LAG_NS:
                self.skipped_ns += lag
                began += lag
                self._start_ns += lag
            else:
                self._stop.wait(max(0, -lag) / 1e9)

    def _next_command(self, world: PegWorld, touched: bool) -> np.ndarray:
        if not self._follow:
            return self._policy.act(world.pose(), touched)
        given = self._command
        if given is None or monotonic_ns() - given[1] > 2 * COMMAND_NS:
            return np.zeros(4)
        return given[0]

    def _bring_wrench(self, before: int, wrench: np.ndarray) -> None:
        for index, row in enumerate(wrench):
            earlier, now = before + index * _MILLISECOND_NS, before + (index + 1) * _MILLISECOND_NS
            if _due(earlier, now, self.rates.wrench):
                self._bring("wrench", self._start_ns + now, self.sensors.wrench.measure(row))

    def _bring_pictures(self, world: PegWorld, before: int, elapsed: int) -> None:
        rgb_due, depth_due = _due(before, elapsed, self.rates.rgb), _due(before, elapsed, self.rates.depth)
        if not (rgb_due or depth_due):
            return
        image, depth = world.picture()
        self.frames = world.frames()
        stamp_ns = self._start_ns + elapsed
        for name, due, sensor, picture in (
            ("rgb", rgb_due, self.sensors.rgb, image),
            ("depth", depth_due, self.sensors.depth, depth),
        ):
            if due:
                self._deliver_truth(Sample(name, stamp_ns, picture))
                self._bring(name, stamp_ns, sensor.measure(picture))

    def _bring(self, sensor: str, stamp_ns: int, value: np.ndarray | None) -> None:
        if value is None:
            return
        fault = self.sensors.named(sensor).fault
        if fault == "late":
            heappush(self._late, (stamp_ns + LATE_NS, next(self._order), Sample(sensor, stamp_ns, value)))
            return
        self._deliver(Sample(sensor, stamp_ns + (WRONG_STAMP_NS if fault == "wrong_stamp" else 0), value))

    def _bring_late(self, now_ns: int) -> None:
        while self._late and self._late[0][0] <= now_ns:
            self._deliver(heappop(self._late)[2])


def _due(before: int, now: int, rate: float) -> bool:
    """Return whether a sensor of that rate has a sample in (before, now], both in nanoseconds of simulated time."""
    # A millionth of a sample more, since products of floats may fall short of a whole number.
    return rate > 0.0 and int(now * rate / 1e9 + 1e-6) > int(before * rate / 1e9 + 1e-6)


def _refused(action: np.ndarray, tilt: np.ndarray | None) -> CommandError | None:
    limits = np.array([MOST_TRANSLATION] * 3 + [MOST_ROTATION])
    if not np.isfinite(action).all():
        return CommandError("finite numbers", action)
    if (np.abs(action) > limits).any():
        return CommandError(f"at most {MOST_TRANSLATION:g} m and {MOST_ROTATION:g} rad for 50 ms", action)
    if tilt is not None and tilt.any():
        return CommandError("0 for angular.x and angular.y, since the tool stays upright", tilt)
    return None
