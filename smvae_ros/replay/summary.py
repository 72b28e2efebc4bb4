"""summary.json of a replay: the results, how far the bag could be read, and what the results were computed from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from smvae_core.calibration import Calibration
from smvae_core.scores import Evaluation
from smvae_ros.settings import FusionSettings


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BagExtent(_Record):
    """How far a bag could be read. Times are receive times.

    Attributes:
        whole: nothing was missing, damaged or cut off.
        damage: sentences on what was missing, damaged or cut off.
        begin_ns: receive time of the first message on the topics of the replay.
        seconds: time from the first to the last message that could be read.
        recorded_seconds: length by the bag's metadata, if it has any.
        messages: number of messages read on the topics of the replay.
    """

    whole: bool
    damage: tuple[str, ...]
    begin_ns: int
    seconds: float
    recorded_seconds: float | None
    messages: int


class StreamSummary(_Record):
    """The account of one modality's messages; see `smvae_ros.synchronizer.stream.StreamCounts`.

    Attributes:
        recorded: number of messages in the bag; `received` counts those that a what-if let through.
        publishers: number of publishers on the topic while the bag was recorded, as far as the bag tells.
        lag_s: least and most time from a message's stamp to its receive time; None where none had a stamp.
        unusable: number of messages that cannot be used, by reason.
        rejected: number of sets that had to do without the modality, because its messages could not be converted.
        rejected_because: the reason of the first time.
    """

    topic: str
    recorded: int
    publishers: int
    lag_s: tuple[float, float] | None
    received: int
    used: int
    sets: int
    zero_stamp: int
    dropped: dict[str, int]
    unusable: dict[str, int] = {}
    rejected: int
    rejected_because: str | None


Kind = Literal["drop", "delay", "swap", "shift", "cover", "dim", "scale", "bias", "noise", "zero", "freeze"]
"""The faults that a replay can put on top of a bag; each is an option of `smvae replay`."""


class Fault(_Record):
    """A fault of one modality, from `start` until before `end`, seconds from the bag's start.

    Attributes:
        kind: `drop` takes messages away, `delay` lets them arrive later with their stamps as they are, `swap` puts what
            another bag has at the same time in their place, `freeze` repeats what was sent last. The others are those
            of `smvae_core.data.faults`.
        amount: the factor, deviation, number of seconds and so on; 0 for a fault without an amount.
        other: the other bag of a `swap`.
        end: None is open.
    """

    kind: Kind
    modality: str
    amount: float = 0.0
    other: Path | None = None
    start: float = 0.0
    end: float | None = None

    @property
    def throughout(self) -> bool:
        """Whether the fault is there from the beginning to the end of the bag."""
        return self.start <= 0.0 and self.end is None

    @property
    def interval(self) -> str:
        """The time of the fault, in words."""
        if self.end is None:
            return f"from {self.start:g} s" if self.start else "throughout"
        return f"from {self.start:g} to {self.end:g} s"

    def covers(self, since_ns: int) -> bool:
        """Return whether the fault is there at a time from the bag's start."""
        return round(1e9 * self.start) <= since_ns and (self.end is None or since_ns < round(1e9 * self.end))

    def meets(self, other: Fault) -> bool:
        """Return whether another fault is of the same kind and modality, and at some time at once with this one."""
        early, late = sorted((self, other), key=lambda fault: fault.start)
        same = (self.kind, self.modality) == (other.kind, other.modality)
        return same and (early.end is None or late.start < early.end)


class WhatIf(_Record):
    """Faults that a replay puts on top of what was recorded."""

    faults: tuple[Fault, ...] = ()


class ReplaySummary(_Record):
    """The results of a replay of one bag, and what they were computed from.

    Attributes:
        settings_sha256: hash of settings, what-if and `subset_rate`.
        versions: versions of the packages that computed the results.
        warnings: sentences that a reader of the figures should know about the bag.
        sets_by_subset: number of sets by their modalities, joined by `+`.
        evaluation: errors of the predictions from subsets (see `subsets_of_set`) against what was recorded. A row is
            over the sets that were judged by its subset; a modality is judged where the bag has it, whether or not the
            set held it, its images from every subset in some sets only (`subset_rate`); `scored` tells in how many.
        subset_rate: sets a second whose images were predicted from every subset; 0 is every set.
        calibration: of the checkpoint, measured on its held-out training data; None where it has none.
    """

    bag: str
    bag_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    settings_sha256: str
    versions: dict[str, str]
    device: str
    settings: FusionSettings
    what_if: WhatIf
    extent: BagExtent
    warnings: tuple[str, ...]
    modalities: tuple[str, ...]
    streams: dict[str, StreamSummary]
    sets: int
    sets_by_reason: dict[str, int]
    sets_by_subset: dict[str, int]
    empty_ticks: int
    resets: int
    evaluation: Evaluation
    subset_rate: float = 0.0
    calibration: Calibration | None = None


class BagResult(_Record):
    """The result of one bag among several.

    Attributes:
        bag: path of the bag from the folder that was given.
        folder: folder of its results, in the folder of all results; None if the replay failed.
        sets: number of sets that went out.
        evaluation: see `ReplaySummary.evaluation`.
        damage: see `BagExtent.damage`.
        warnings: see `ReplaySummary.warnings`.
        error: why there are no results.
    """

    bag: str
    folder: str | None
    sets: int = 0
    evaluation: Evaluation | None = None
    damage: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None


class ReplaysSummary(_Record):
    """The content of summary.json of several bags: each bag, and all together.

    Attributes:
        checkpoint: name of the checkpoint.
        evaluation: errors over all bags, every set weighing the same; None if all bags failed.
    """

    checkpoint: str
    what_if: WhatIf
    bags: tuple[BagResult, ...]
    sets: int
    evaluation: Evaluation | None


class Timing(_Record):
    """The content of timing.json, which differs between two replays of the same bag.

    Attributes:
        wall_seconds: time for reading, sets, inference and writing, without loading the model.
        bag_seconds_per_wall_second: how many times faster than it was recorded the bag was replayed.
        inference_median_s: median time of one set through the engine as in the node, everything predicted, one thread.
        inference_p99_s: the 99th percentile of that time.
        inference_sets: number of sets that were timed.
    """

    wall_seconds: float
    bag_seconds_per_wall_second: float
    inference_median_s: float
    inference_p99_s: float
    inference_sets: int
