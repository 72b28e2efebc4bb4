"""How one modality takes part in the sets, and what became of its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

NEVER = -(1 << 63)
"""Before every stamp and every time, in nanoseconds."""
FOREVER = 1 << 128
"""After every stamp and every time, in nanoseconds."""


@dataclass(frozen=True)
class Stream:
    """The settings of one modality in the synchroniser. All times are integer nanoseconds.

    Attributes:
        name: the modality.
        tolerance_ns: how far from the reference a sample (for a window: its newest sample) may lie, on either side.
        timeout_ns: how long a stream may be without usable samples before it is dead. Nothing waits for a dead stream,
            and a window does not reach back across such a silence.
        depth: how many samples are kept; the oldest is dropped for a new one.
        window: 1 for the sample nearest to the reference; more for the newest `window` samples up to the reference.
            Windows slide: a later window may repeat samples, but needs a newest sample of its own.
        least: how many samples a window needs to count as present.
        hold_ns: 0 if a sample is used once; otherwise the age up to which it may be used again.
        offset_ns: added to each stamp, for a sensor whose clock is known to be off.
        period_ns: the least spacing between two samples, 0 if unknown. It only lets sets leave early. If samples come
            closer together, the observed spacing replaces it for about 100 samples.
        ordered: whether the transport delivers the samples in the order of their stamps.
        enabled: whether the modality takes part in sets; the samples of a disabled stream are counted and dropped.

    Raises:
        ValueError: a value out of its range; the message names it.
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
        """Return the stream as the reference: each sample opens a set and is used once, at exactly its own stamp.

        Raises:
            ValueError: the stream has a window.
        """
        if self.window > 1:
            raise ValueError(f"the reference must not be windowed, found a window of {self.window} for {self.name}")
        # Room for the sample that makes the oldest set leave: it must not push out that set's own sample.
        return replace(self, tolerance_ns=0, hold_ns=0, depth=self.depth + 1)


def checked_streams(streams: Iterable[Stream], reference: str | None) -> list[Stream]:
    """Return the streams of a synchroniser.

    Raises:
        ValueError: two streams of one name, or a reference that is none of them.
    """
    found = list(streams)
    names = [stream.name for stream in found]
    if len(set(names)) < len(names):
        raise ValueError(f"each stream needs a name of its own, found {', '.join(names)}")
    if reference is not None and reference not in names:
        raise ValueError(f"the reference must be one of {', '.join(names)}, found {reference}")
    return found


@dataclass
class StreamCounts:
    """The account of a stream's samples: `received = used + sum(dropped) + samples still held`.

    Attributes:
        received: samples that arrived.
        used: samples that went out in a set, each counted once.
        sets: sets that the modality was in.
        stretched: windows that were left out of their sets, because they span more than four times the time that their
            samples take at the declared period.
        span_ns: from the oldest to the newest sample of the last of these windows, in nanoseconds.
        zero_stamp: samples that came without a stamp and got their time of arrival.
        dropped: samples in no set, by reason: rejected (the content cannot be used), late, duplicate, future, unmatched
            (a reference whose clock is not that of the others), overflow, stretched (of a window that spans too much
            time), unused (no set could take it), reset or disabled.
    """

    received: int = 0
    used: int = 0
    sets: int = 0
    zero_stamp: int = 0
    stretched: int = 0
    span_ns: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def reject_used(self, samples: int) -> None:
        """Count the samples of one set as rejected instead of used, and the modality as absent from the set."""
        samples = min(samples, self.used)
        self.used -= samples
        self.sets = max(0, self.sets - 1)
        self.dropped["rejected"] += samples
