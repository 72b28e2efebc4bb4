"""The pose that the policy goes by: readings of a head, weighed by their σ, and its own commands in between.

A Kalman filter for each attempt, whose four values are independent. It is the same for every feed.
"""

from __future__ import annotations

import numpy as np

_CORRELATED = 4.0
"""The variance of a reading counts so many times, since the errors of steps that follow each other are alike."""
_FREE, _TOUCHING = np.array([1.0, 1.0, 1.0, 0.9]), np.array([0.3, 0.3, 0.65, 0.85])
"""The part of a command that the tip follows within a step, in the air and in contact; from logs, as what follows."""
_DRIFT = np.array([0.0012, 0.0012, 0.0016, 0.005])
"""Standard deviation of what the tip does beside its command in one step, metres and radians."""
_LEAD = 0.3
"""The same, as a part of the command: a tip that is under way overtakes its commands."""
_START = np.array([0.12, 0.12, 0.08, 0.5])
"""Standard deviation of the pose before the first reading."""
_GATE = 4.0
"""A reading further away than so many standard deviations is taken with that much more variance."""


class PoseFilter:
    """The estimate of one attempt."""

    def __init__(self) -> None:
        self.pose: np.ndarray = np.array([0.0, 0.0, 0.06, 0.0])
        self._variance = _START**2

    @property
    def sigma(self) -> np.ndarray:
        """Standard deviation of the pose, (4,)."""
        return np.asarray(np.sqrt(self._variance))

    def read(self, pose: np.ndarray, sigma: np.ndarray) -> None:
        """Take a reading and its standard deviation, (4,) each."""
        noise = _CORRELATED * np.square(sigma)
        innovation = pose - self.pose
        far = np.square(innovation) / (_GATE**2 * (self._variance + noise))
        noise = noise * np.maximum(1.0, far)
        gain = self._variance / (self._variance + noise)
        self.pose = self.pose + gain * innovation
        self._variance = (1.0 - gain) * self._variance

    def move(self, command: np.ndarray, touching: bool) -> None:
        """Follow a command, (4,)."""
        self.pose = self.pose + (_TOUCHING if touching else _FREE) * command
        self._variance = self._variance + _DRIFT**2 + np.square(_LEAD * command)
