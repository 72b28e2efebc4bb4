"""What the node counts and measures while it is active."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np

STAGES = ("latency", "wait", "conversion", "inference", "publication", "processor")
"""What is timed for each set.

The latency reaches from the newest stamp of the set to its publication, in time of the node's clock: with a coarse
/clock it is no finer than that, and never negative. Where the stamps are of another clock, there is none. `processor`
is the processor time of the worker's thread. Sets that make up for a silence of the reference are not timed: they are
late by intention.
"""

_REMEMBERED = 1000


class Statistics:
    """Counts since activation. The executor's thread and the worker's write them; the executor's reads them.

    Attributes:
        skipped: sets that a newer one overtook before the worker took them.
        unheard: sets that were not run, because nobody listened.
        published: sets whose latent was published.
        failures: sets that the engine could not fuse.
        unpublished: by topic, messages that could not be published.
        decoded: by modality, predictions computed.
        reasons: by modality or topic, why its last sample or message could not be used or published.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self.unheard = 0
        self.published = 0
        self.failures = 0
        self.unpublished: Counter[str] = Counter()
        self.decoded: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self._seconds = np.zeros((len(STAGES), _REMEMBERED))
        self._timed = 0
        self._told: tuple[int, dict[str, tuple[float, float]]] = 0, dict.fromkeys(STAGES, (0.0, 0.0))
        self._lock = threading.Lock()

    def note_reason(self, modality: str, reason: str) -> None:
        """Keep why the last bad message of a modality could not be used."""
        self.reasons[modality] = reason

    def reject(self, modality: str, reason: str) -> None:
        """Note a sample of a set that could not be converted."""
        with self._lock:
            self._rejected[modality] += 1
        self.note_reason(modality, reason)

    def take_rejected(self) -> Counter[str]:
        """Return by modality the samples that `reject` noted since the last call."""
        with self._lock:
            taken, self._rejected = self._rejected, Counter()
        return taken

    def fail(self, topic: str, reason: str) -> None:
        """Count a message that could not be published."""
        self.unpublished[topic] += 1
        self.reasons[topic] = reason

    def add_times(self, seconds: Mapping[str, float]) -> None:
        """Take how long each of `STAGES` took for one set, NaN where that is unknown; the last 1000 sets count."""
        with self._lock:
            self._seconds[:, self._timed % _REMEMBERED] = [seconds.get(stage, 0.0) for stage in STAGES]
            self._timed += 1

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """Return the median and the 99th percentile of each stage in seconds; 0 where none is known."""
        with self._lock:
            timed, seconds = self._timed, self._seconds[:, : self._timed].copy()
        if timed != self._told[0]:  # a report asks several times
            told = {stage: _median_and_most(found[np.isfinite(found)]) for stage, found in zip(STAGES, seconds)}
            self._told = timed, told
        return self._told[1]


def _median_and_most(seconds: np.ndarray) -> tuple[float, float]:
    if not seconds.size:
        return 0.0, 0.0
    median, most = np.percentile(seconds, (50, 99))
    return float(median), float(most)
