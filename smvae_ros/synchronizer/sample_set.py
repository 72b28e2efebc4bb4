"""The sets that the synchroniser returns: samples that belong together."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

# Builds a named tuple in half the time that its constructor, a Python function, takes.
new_tuple = tuple.__new__

TOGETHER = 4
"""How many sets may leave the synchroniser together and all be run: two when a sensor falls silent, and one for each
period of a camera during which the machine slept. Sets that make up for a silence of the reference come on top."""

Reason = Literal["complete", "deadline", "tick", "overflow"]


class Sample(NamedTuple):
    """A sample and its stamp in nanoseconds, the stream's offset included."""

    stamp_ns: int
    data: Any


class SampleSet(NamedTuple):
    """The samples that belong to one reference. All times are integer nanoseconds.

    Attributes:
        stamp_ns: the stamp of the reference or the tick. Strictly increasing within an epoch.
        epoch: how often the synchroniser had been reset.
        samples: by modality that is present, its samples, oldest first.
        reason: why the set went out. complete: no live modality was missing. deadline: `max_wait_ns` had passed.
            tick: the clock opened the set, not the reference. overflow: more references waited than the reference's
            depth.
        opened_ns: when the reference arrived.
        emitted_ns: when the set went out.
        made_up: whether the set makes up for a moment at which the reference was still waited for. Such sets go out
            together, once the reference counts as silent.
    """

    stamp_ns: int
    epoch: int
    samples: dict[str, tuple[Sample, ...]]
    reason: Reason
    opened_ns: int
    emitted_ns: int
    made_up: bool = False

    @property
    def ages_ns(self) -> dict[str, int]:
        """The age of each modality: how much older than the reference its newest sample is; negative if younger."""
        return {name: self.stamp_ns - samples[-1].stamp_ns for name, samples in self.samples.items()}

    def seconds_since(self, before: SampleSet | None) -> float | None:
        """Return the time from an earlier set to this one; None where there is none, or time jumped back between."""
        if before is None or before.epoch != self.epoch:
            return None
        return (self.stamp_ns - before.stamp_ns) / 1e9

    @property
    def spread_ns(self) -> int:
        """The time between the oldest and the youngest of the modalities' newest samples."""
        ages_ns = self.ages_ns.values()
        return max(ages_ns) - min(ages_ns)
