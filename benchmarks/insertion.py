"""Attempts to insert a peg in lock-step simulated time, by a policy that sees only what a feed reads from sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.insertion_feeds import STEP_S, Feed
from benchmarks.pose_filter import PoseFilter
from benchmarks.pose_head import POSE
from smvae_core.modality import Modality
from smvae_core.simulation.policy import PegPolicy, Phase
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import HOLE_DEPTH
from smvae_core.simulation.world import Observation, PegWorld

LIMIT_S = 20.0
"""Simulated time of one attempt."""
REACH_M = 0.012
"""A first contact so near to the hole's axis is within reach of the policy's search."""
DEEP_M = HOLE_DEPTH - 0.004
_ALIGNING_S = (0.2, 1.0)
_CAREFUL = (Phase.ALIGN, Phase.APPROACH)
_SURE_M, _SLOWEST = 0.006, 0.3
"""From this σ of the position on the policy moves slower, down to this part of its speed."""
_BESIDE_M, _OVER_M = 0.006, 0.01
"""Further than this beside where the policy goes down, it does not go lower than so much over where it waits."""


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
        error_mm: root mean square of the position that the policy goes by, across the hole's axis, over the attempt.
    """

    inserted: bool
    reached: bool
    seconds: float
    error_mm: float


class Task(Enum):
    """What an attempt is to reach: the hole's bottom, or a first contact beside the hole."""

    INSERTION = "insertion"
    CONTACT = "contact"


def attempts(
    feed: Feed, condition: Condition, modalities: Sequence[Modality], seeds: Sequence[int], task: Task
) -> list[Outcome]:
    """Make an attempt from a random pose for each seed, all in lock-step; give up after `LIMIT_S`.

    The same seed gives the same start, the same guess of where the hole is, and the same moment of the fault.
    """
    feed.begin(len(seeds))
    made = [_Attempt(world, condition, modalities, seed, task) for world, seed in zip(_worlds(len(seeds)), seeds)]
    while running := [number for number, one in enumerate(made) if not one.done]:
        truth = np.stack([made[number].truth() for number in running])
        readings = feed.read(running, [made[number].bring() for number in running], truth)
        feed.decided(running, [made[number].decide(reading) for number, reading in zip(running, readings)])
        for number in running:
            made[number].move()
    return [one.outcome() for one in made]


_made: list[PegWorld] = []


def _worlds(count: int) -> list[PegWorld]:
    """Return worlds of this process, which are kept, since to make one takes as long as a hundred steps."""
    while len(_made) < count:
        _made.append(PegWorld("triangle", SceneLook(), np.random.default_rng(0)))
    return _made[:count]


class _Attempt:
    """One attempt, step by step: `bring`, `decide`, `move`, until it is done."""

    def __init__(
        self, world: PegWorld, condition: Condition, modalities: Sequence[Modality], seed: int, task: Task
    ) -> None:
        self._policy = PegPolicy(np.random.default_rng([seed, 1]))
        self._filter = PoseFilter()
        self._condition, self._task, self._fails_at = condition, task, failure_s(seed)
        self._of = {modality.name: modality for modality in modalities}
        self._last: dict[str, np.ndarray] = {}
        self._errors: list[float] = []
        self._failed = self._inserted = False
        self._reached: bool | None = None
        self._steps = 1
        self.world = world
        self.world.reset(self._policy.start_pose(), np.random.default_rng([seed, 2]))
        self._seen = self.world.step(np.zeros(POSE))

    @property
    def done(self) -> bool:
        touched = self._reached is not None and self._task is Task.CONTACT
        return self._inserted or touched or self._steps >= round(LIMIT_S / STEP_S)

    def bring(self) -> dict[str, np.ndarray]:
        """Return what the sensors bring, in model units."""
        at_s = self._steps * STEP_S
        self._failed = self._failed or begins(self._condition, self._policy.phase, at_s, self._fails_at)
        raws = _brought(self._seen, self._last, self._condition if self._failed else None)
        return {name: self._of[name].to_model(value) for name, value in raws.items() if name in self._of}

    def truth(self) -> np.ndarray:
        """Return the pose, and whether the peg touches, (5,)."""
        return np.array([*self.world.pose(), float(self._seen.contact.any())])

    def decide(self, reading: np.ndarray) -> np.ndarray:
        """Take what was read of pose, contact and σ; return the command, in model units."""
        self._filter.read(reading[:POSE], reading[POSE + 1 :])
        touching = bool(reading[POSE] > 0.5)
        self._errors.append(float(np.square(self._filter.pose[:2] - self.world.pose()[:2]).sum()))
        self._action = next_action(self._policy, self._filter, touching)
        self._filter.move(self._action, touching)
        return self._of["action"].to_model(self._action) if "action" in self._of else self._action

    def move(self) -> None:
        """Carry the command out."""
        self._seen = self.world.step(self._action)
        self._steps += 1
        pose = self.world.pose()
        if self._reached is None and self._seen.contact.any():
            self._reached = bool(np.linalg.norm(pose[:2]) < REACH_M)
        self._inserted = bool(-pose[2] > DEEP_M)

    def outcome(self) -> Outcome:
        error_mm = 1e3 * float(np.sqrt(np.mean(self._errors)))
        return Outcome(self._inserted, bool(self._reached), self._steps * STEP_S, error_mm)


def failure_s(seed: int) -> float:
    """Return when a sensor fails that fails while aligning, seconds from the attempt's beginning."""
    return float(np.random.default_rng([seed, 0]).uniform(*_ALIGNING_S))


def next_action(policy: PegPolicy, known: PoseFilter, touching: bool) -> np.ndarray:
    """Return the policy's next command by what is known of the pose.

    It goes down once it is above the hole, and moves slowly where little is known, so that readings come before it gets
    far.
    """
    action = policy.act(known.pose, touching)
    if policy.phase not in _CAREFUL:
        return action
    beside, over = np.hypot(*(known.pose - policy.above)[:2]), known.pose[2] - policy.above[2]
    if beside > _BESIDE_M and over < _OVER_M:
        action[2] = max(action[2], 0.0)
    unsure = float(np.hypot(*known.sigma[:2]))
    return action * max(_SLOWEST, _SURE_M / unsure) if unsure > _SURE_M else action


def begins(condition: Condition, phase: Phase, at_s: float, fails_at_s: float) -> bool:
    """Return whether what fails under a condition fails now, or would have since: a search may last for one step.

    Args:
        condition: of the attempt.
        phase: of the policy.
        at_s: seconds since the attempt's beginning.
        fails_at_s: when it fails if it fails while aligning.
    """
    if not condition.sensors:
        return False
    if condition.phase is Phase.ALIGN:
        return at_s >= fails_at_s
    order = list(Phase)
    return condition.phase is None or order.index(phase) >= order.index(condition.phase)


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
