"""Attempts to insert a peg in lock-step simulated time, by a policy that sees only what a feed reads from sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from benchmarks.pose_head import POSE, Head, raw
from smvae_core.inference.engine import Engine
from smvae_core.modality import Modality
from smvae_core.simulation.policy import PegPolicy, Phase
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import HOLE_DEPTH
from smvae_core.simulation.world import Observation, PegWorld

STEP_S = 0.05
LIMIT_S = 20.0
"""Simulated time of one attempt."""
REACH_M = 0.012
"""A first contact so near to the hole's axis is within reach of the policy's search."""
DEEP_M = HOLE_DEPTH - 0.004
SENSORS = ("rgb", "depth", "force")
"""The modalities that are known when a command is decided; the command itself becomes `action`."""

_ALIGNING_S = (0.2, 1.0)


@dataclass(frozen=True)
class Condition:
    """What fails in an attempt, and when; it stays so to the end.

    Attributes:
        name: heading in the table.
        sensors: what fails.
        fault: `frozen` brings the last sample again, `unplugged` nothing.
        phase: it fails in this phase; None: from the beginning.
    """

    name: str
    sensors: tuple[str, ...] = ()
    fault: Literal["unplugged", "frozen"] = "unplugged"
    phase: Phase | None = None


CONDITIONS = (
    Condition("all sensors"),
    Condition("camera unplugged while aligning", ("rgb",), "unplugged", Phase.ALIGN),
    Condition("camera frozen while aligning", ("rgb",), "frozen", Phase.ALIGN),
    Condition("camera unplugged while searching", ("rgb",), "unplugged", Phase.SEARCH),
    Condition("camera frozen while searching", ("rgb",), "frozen", Phase.SEARCH),
    Condition("camera and depth unplugged while aligning", ("rgb", "depth"), "unplugged", Phase.ALIGN),
    Condition("camera and depth unplugged while searching", ("rgb", "depth"), "unplugged", Phase.SEARCH),
    Condition("depth lost", ("depth",)),
    Condition("force lost", ("force",)),
)


class Outcome(NamedTuple):
    """What became of an attempt.

    Attributes:
        inserted: whether the peg was in the hole within the time.
        reached: whether its first contact was within reach of the search.
        seconds: simulated time that it took.
        error_mm: root mean square of the read position across the hole's axis, over the attempt.
    """

    inserted: bool
    reached: bool
    seconds: float
    error_mm: float


class Feed(Protocol):
    """Reads the pose from what the sensors bring."""

    def begin(self) -> None:
        """Forget the attempt before."""

    def read(self, arrays: Mapping[str, np.ndarray], world: PegWorld) -> np.ndarray:
        """Return pose and probability of a contact, (5,), of the modalities that arrived, in model units."""

    def decided(self, arrays: Mapping[str, np.ndarray], action: np.ndarray) -> None:
        """Take note of the command that followed, in model units."""


class TruePose:
    """The simulator's own pose: the most that any feed can give the policy."""

    def begin(self) -> None:
        """Nothing to forget."""

    def read(self, arrays: Mapping[str, np.ndarray], world: PegWorld) -> np.ndarray:
        """Return the pose; the contact is told by a force of 1 N."""
        force = np.abs(arrays["force"]).max() if "force" in arrays else 0.0
        return np.array([*world.pose(), float(force > 0.1)])

    def decided(self, arrays: Mapping[str, np.ndarray], action: np.ndarray) -> None:
        """Nothing to note."""


class LatentFeed:
    """Our latent of whatever set arrived, read by a head.

    Args:
        memory: hand the state from set to set, with checkpoints that have one.
    """

    def __init__(self, engine: Engine, head: Head, memory: bool) -> None:
        self._engine, self._head, self._memory = engine, head, memory
        self._state: object = None

    def begin(self) -> None:
        """Forget the state."""
        self._state = None

    def read(self, arrays: Mapping[str, np.ndarray], world: PegWorld) -> np.ndarray:
        """Return what the head reads from the latent's mean."""
        mean = self._engine.infer(arrays, **self._kept()).mean
        return np.asarray(self._head.read(mean[None])[0], np.float64)

    def decided(self, arrays: Mapping[str, np.ndarray], action: np.ndarray) -> None:
        """Put the whole set, the command in it, into the state."""
        if self._memory:
            self._state = self._engine.infer({**arrays, "action": action}, **self._kept()).state

    def _kept(self) -> dict[str, object]:
        return {"state": self._state, "elapsed": STEP_S} if self._memory and self._state is not None else {}


class RawFeed:
    """The raw modalities, read by a head, with zeros or the last value in place of what is missing."""

    def __init__(self, modalities: Sequence[Modality], head: Head, hold: bool) -> None:
        self._shapes = {m.name: m.shape for m in modalities if m.name in SENSORS}
        self._head, self._hold = head, hold
        self.begin()

    def begin(self) -> None:
        """Forget the last values."""
        self._last = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}

    def read(self, arrays: Mapping[str, np.ndarray], world: PegWorld) -> np.ndarray:
        """Return what the head reads."""
        present = {name: arrays.get(name, self._last[name])[None] for name in SENSORS}
        if self._hold:
            self._last.update({name: arrays[name] for name in SENSORS if name in arrays})
        return np.asarray(self._head.read(raw(present, SENSORS))[0], np.float64)

    def decided(self, arrays: Mapping[str, np.ndarray], action: np.ndarray) -> None:
        """Nothing to note."""


def attempt(feed: Feed, condition: Condition, modalities: Sequence[Modality], seed: int) -> Outcome:
    """Insert the peg from a random pose, or give up after `LIMIT_S`.

    The same seed gives the same start, the same guess of where the hole is, and the same moment of the fault.
    """
    start = np.random.default_rng([seed, 0])
    policy, fails_at = PegPolicy(np.random.default_rng([seed, 1])), start.uniform(*_ALIGNING_S)
    of = {modality.name: modality for modality in modalities}
    errors: list[float] = []
    reached, inserted, failed, last = None, False, False, {}
    feed.begin()
    with PegWorld("triangle", SceneLook(), np.random.default_rng([seed, 2])) as world:
        world.reset(policy.start_pose())
        seen = world.step(np.zeros(POSE))
        for step in range(1, round(LIMIT_S / STEP_S)):
            failed = failed or _begins(condition, policy.phase, step * STEP_S, fails_at)
            raws = _brought(seen, last, condition if failed else None)
            arrays = {name: of[name].to_model(value) for name, value in raws.items() if name in of}
            read = feed.read(arrays, world)
            errors.append(float(np.square(read[:2] - world.pose()[:2]).sum()))
            action = policy.act(read[:POSE], bool(read[POSE] > 0.5))
            feed.decided(arrays, of["action"].to_model(action) if "action" in of else action)
            seen = world.step(action)
            pose = world.pose()
            if reached is None and seen.contact.any():
                reached = bool(np.linalg.norm(pose[:2]) < REACH_M)
            inserted = -pose[2] > DEEP_M
            if inserted:
                break
    return Outcome(bool(inserted), bool(reached), (step + 1) * STEP_S, 1e3 * float(np.sqrt(np.mean(errors))))


def _begins(condition: Condition, phase: Phase, at_s: float, fails_at_s: float) -> bool:
    if not condition.sensors:
        return False
    if condition.phase is Phase.ALIGN:
        return at_s >= fails_at_s
    return condition.phase is None or phase is condition.phase


def _brought(seen: Observation, last: dict[str, np.ndarray], fault: Condition | None) -> dict[str, np.ndarray]:
    """Return the raw samples that arrive; `last` keeps the newest of each sensor, for those that freeze."""
    raws = {"rgb": seen.image, "depth": seen.depth, "force": seen.wrench}
    for name in fault.sensors if fault is not None else ():
        if fault is not None and fault.fault == "frozen" and name in last:
            raws[name] = last[name]
        else:
            del raws[name]
    last.update(raws)
    return raws
