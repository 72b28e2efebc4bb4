"""The use of every message: whether the samples of the sets came into a log, and if not, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from smvae_ros.synchronizer.set_synchronizer import SampleSet

MOST_REASONS = 8
"""Most reasons that are told apart for a modality, since some contain numbers of the message."""

OTHER = "unusable for another reason"


class Usage:
    """Counts, by modality, of the samples in sets: used, or dropped with a reason. A sample counts once.

    A sample may be in several sets (a window that slides, a command that is held). It is used if any of them is
    written; otherwise the reason of the first set counts.

    Attributes:
        used: number of samples that stand in a log.
        dropped: number of samples by reason.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.used: Counter[str] = Counter()
        self.dropped: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._open: dict[str, dict[int, str | None]] = {name: {} for name in names}
        self._epoch = 0

    def settle(self, sample_set: SampleSet, rejected: Mapping[str, str], reason: str | None) -> None:
        """Add a set, in the order of the sets.

        Args:
            rejected: by modality, why its samples could not be used.
            reason: why the set was not written; None if it was.
        """
        if sample_set.epoch != self._epoch:
            self.close()
            self._epoch = sample_set.epoch
        for name, samples in sample_set.samples.items():
            outcomes = self._open[name]
            # Later sets hold no sample that is older than the oldest one here.
            self._count(name, [stamp_ns for stamp_ns in outcomes if stamp_ns < samples[0].stamp_ns])
            outcome = rejected.get(name, reason)
            for sample in samples:
                if outcome is None:
                    outcomes[sample.stamp_ns] = None
                else:
                    outcomes.setdefault(sample.stamp_ns, outcome)

    def close(self) -> None:
        """Count the samples that later sets might have held."""
        for name, outcomes in self._open.items():
            self._count(name, list(outcomes))

    def _count(self, name: str, stamps: Sequence[int]) -> None:
        for stamp_ns in stamps:
            reason = self._open[name].pop(stamp_ns)
            if reason is None:
                self.used[name] += 1
                continue
            dropped = self.dropped[name]
            dropped[reason if reason in dropped or len(dropped) < MOST_REASONS else OTHER] += 1
