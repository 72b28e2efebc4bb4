"""A noisy scripted policy that inserts a peg, pulls it out and moves away, again and again."""

from __future__ import annotations

from enum import Enum

import numpy as np

from smvae_core.simulation.shapes import HOLE_DEPTH

# Start poses relative to the hole's mouth: x, y, z (metres), yaw (radians).
START_LOW = np.array([-0.12, -0.12, 0.03, -0.5])
START_HIGH = np.array([0.12, 0.12, 0.13, 0.5])

_LARGEST = np.array([0.008, 0.008, 0.008, 0.06])  # command per step (m, rad): where the soft saturation ends
_GAIN = 0.12  # fraction of the remaining displacement that a step commands
_NOISE = np.array([0.0006, 0.0006, 0.0006, 0.006])
_NOISE_MEMORY = 0.7  # correlation of the noise from step to step, so that the hand wanders instead of trembling


class Phase(Enum):
    """A phase of an attempt. The phases follow each other in the order of this list; the first follows the last."""

    ALIGN = "align"
    APPROACH = "approach"
    TOUCH = "touch"
    SEARCH = "search"
    INSERT = "insert"
    DWELL = "dwell"
    WITHDRAW = "withdraw"
    MOVE = "move"

    @property
    def next(self) -> Phase:
        """The phase that follows."""
        order = list(Phase)
        return order[(order.index(self) + 1) % len(order)]


class PegPolicy:
    """The policy: one attempt after the other, each through all phases.

    For each attempt the policy gets a new guess of where the hole is, a few millimetres and some hundredths of a radian
    off, and finds the hole by spiralling under light pressure. Commands are proportional to the remaining displacement,
    softly saturated, plus noise.

    Args:
        rng: source of all random choices.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise: np.ndarray = np.zeros(4)
        self._phase = Phase.ALIGN
        self._start_attempt()

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._phase

    @property
    def above(self) -> np.ndarray:
        """The pose above its guess of the hole, from which it goes down: x, y, z (metres) and yaw (radians), (4,)."""
        return self._guess + [0.0, 0.0, self._hover, 0.0]

    def start_pose(self) -> np.ndarray:
        """Return a random pose over the box: x, y, z (metres), yaw (radians) of the tip relative to the hole, (4,)."""
        return self._rng.uniform(START_LOW, START_HIGH)

    def act(self, pose: np.ndarray, contact: bool) -> np.ndarray:
        """Return the next command.

        Args:
            pose: x, y, z (metres), yaw (radians) of the tip relative to the hole, (4,).
            contact: whether the peg touched the box in the last step.

        Returns:
            dx, dy, dz (metres), dyaw (radians) for the next 50 ms, (4,) float64.
        """
        if self._finished(pose, contact):
            self._phase, self._age = self._phase.next, 0
            if self._phase is Phase.ALIGN:
                self._start_attempt()
        command: np.ndarray = getattr(self, f"_{self._phase.value}")(pose)
        self._age += 1
        self._noise = _NOISE_MEMORY * self._noise + self._rng.normal(0.0, _NOISE)
        return command + self._noise

    def _start_attempt(self) -> None:
        rng = self._rng
        self._phase, self._age = Phase.ALIGN, 0
        self._guess = np.array([*rng.uniform(-0.005, 0.005, 2), 0.0, rng.uniform(-0.06, 0.06)])
        self._hover = rng.uniform(0.015, 0.05)
        self._away = self.start_pose()
        self._spiral = rng.uniform(0.0, 2.0 * np.pi), rng.choice((-1.0, 1.0)), rng.uniform(0.0035, 0.0055)
        self._pressure = rng.uniform(0.002, 0.005)
        self._dwell_steps, self._touch_steps = rng.integers(5, 13), rng.integers(2, 8)

    def _finished(self, pose: np.ndarray, contact: bool) -> bool:
        age, depth = self._age, -pose[2]
        off = np.abs(pose[:2] - self._guess[:2]).max()
        finished = {
            Phase.ALIGN: (off < 0.008 and abs(pose[2] - self._hover) < 0.01) or age > 60,
            Phase.APPROACH: contact or age > 40,
            Phase.TOUCH: age >= self._touch_steps,
            Phase.SEARCH: depth > 0.003 or age > 90,
            Phase.INSERT: depth > HOLE_DEPTH - 0.004 or age > 40,
            Phase.DWELL: age >= self._dwell_steps,
            Phase.WITHDRAW: pose[2] > self._hover - 0.004 or age > 40,
            Phase.MOVE: np.abs(pose - self._away)[:3].max() < 0.015 or age > 40,
        }
        return bool(finished[self._phase])

    def _align(self, pose: np.ndarray) -> np.ndarray:
        return _towards(pose, self.above)

    def _approach(self, pose: np.ndarray) -> np.ndarray:
        command = _towards(pose, self._guess)
        command[2] = -0.0015 - 0.1 * max(pose[2], 0.0)
        return command

    def _touch(self, pose: np.ndarray) -> np.ndarray:
        return self._pressed(_towards(pose, self._guess))

    def _search(self, pose: np.ndarray) -> np.ndarray:
        start, turn, speed = self._spiral
        radius = min(0.00018 * self._age, 0.009)
        angle = start + turn * 0.55 * self._age
        # The guess moves towards the hole as the search goes on, so that no log shows an endless search.
        guess = self._guess * max(0.0, 1.0 - self._age / 60.0)
        around = guess + [radius * np.cos(angle), radius * np.sin(angle), 0.0, 0.05 * np.sin(0.4 * self._age)]
        command = 3.0 * _towards(pose, around)
        command[:2] *= min(1.0, speed / max(float(np.linalg.norm(command[:2])), 1e-9))
        return self._pressed(command)

    def _insert(self, pose: np.ndarray) -> np.ndarray:
        command = 1.5 * _towards(pose, np.zeros(4))
        command[2] = -0.003 - 0.05 * max(pose[2] + HOLE_DEPTH, 0.0)
        return command

    def _dwell(self, pose: np.ndarray) -> np.ndarray:
        start, turn, speed = self._spiral
        angle = start + turn * 0.5 * self._age
        sideways = 0.8 * speed * np.array([np.cos(angle), np.sin(angle)])
        return np.array([*sideways, -0.4 * self._pressure, 0.03 * np.sin(0.7 * self._age)])

    def _withdraw(self, pose: np.ndarray) -> np.ndarray:
        command = _towards(pose, np.array([0.0, 0.0, self._hover + 0.02, 0.0]))
        command[3] *= 0.3
        return command

    def _move(self, pose: np.ndarray) -> np.ndarray:
        return 1.5 * _towards(pose, self._away)

    def _pressed(self, command: np.ndarray) -> np.ndarray:
        command[2] = -self._pressure
        return command


def _towards(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.asarray(_LARGEST * np.tanh(_GAIN * (goal - pose) / _LARGEST))
