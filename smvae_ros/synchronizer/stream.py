"""How one modality takes part in the sets, and what became of its samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Stream:
    """How one modality takes part in the sets. All times are integer nanoseconds.

    Attributes:
        name: the modality.
        tolerance_ns: how far from the reference a sample may lie, on either side. Of a window: its newest sample.
        timeout_ns: silent for so long, the stream is dead: it is not waited for, and a window does not reach back
            across such a silence.
        depth: the most samples kept; the oldest gives way.
        window: 1 for the sample nearest to the reference; more for the newest `window` samples up to the reference.
            Windows slide: what is used once is their newest sample.
        least: the samples with which a window counts as present.
        hold_ns: 0 if a sample is used once; otherwise the age up to which it may be used again.
        offset_ns: added to each stamp, for a sensor whose clock is known to be off.
        period_ns: the least spacing between two samples, 0 if unknown. It only lets sets leave early. Where samples
            turn out to come closer together, the spacing seen is used instead, until some 100 samples later.
        ordered: whether the transport delivers the samples in the order of their stamps.
        enabled: a stream that is not enabled is counted, and in no set.

    Raises:
        ValueError: a value out of its range, named.
    """

    name: str
    tolerance_ns: int
    timeout_ns: int
    depth: int
    window: int = 1
    least: int = 1
    hold_ns: int = 0
    offset_ns: int = 0
    period_ns: int = 0
    ordered: bool = False
    enabled: bool = True

    def __post_init__(self) -> None:
        for key, least in (
            ("tolerance_ns", 0),
            ("timeout_ns", 1),
            ("window", 1),
            ("least", 1),
            ("hold_ns", 0),
            ("period_ns", 0),
        ):
            if getattr(self, key) < least:
                raise ValueError(f"{self.name}: {key} must be at least {least}, found {getattr(self, key)}")
        if self.least > self.window:
            raise ValueError(f"{self.name}: least must be at most the window of {self.window}, found {self.least}")
        if 0 < self.hold_ns < self.tolerance_ns:
            raise ValueError(
                f"{self.name}: hold_ns must be 0 or at least the tolerance of {self.tolerance_ns}, found {self.hold_ns}"
            )
        if self.depth < self.window:
            raise ValueError(f"{self.name}: depth must hold the window of {self.window}, found {self.depth}")

    def as_reference(self) -> Stream:
        """The same as a stream whose samples open sets: each is taken by its own stamp, exactly and once.

        Raises:
            ValueError: a windowed one.
        """
        if self.window > 1:
            raise ValueError(f"the reference must not be windowed, found a window of {self.window} for {self.name}")
        # Where one more waits than may, the oldest leaves.
        return replace(self, tolerance_ns=0, hold_ns=0, depth=self.depth + 1)


@dataclass
class StreamCounts:
    """What became of a stream's samples: `received = used + sum(dropped) + those still held`.

    `zero_stamp` counts samples that came without a stamp and got the time of arrival; `sets` the sets that the
    modality was in. The reasons in `dropped` are late, duplicate, future, overflow, unused (no set could take it),
    reset and disabled.
    """

    received: int = 0
    used: int = 0
    sets: int = 0
    zero_stamp: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
