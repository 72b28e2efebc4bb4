"""summary.json of a replay: what was found, how far the bag went, and what all of it was computed from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from smvae_core.scores import Evaluation
from smvae_ros.settings import FusionSettings


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BagExtent(_Record):
    """How far a bag could be read. Times are the bag's own clock, its log times.

    Attributes:
        whole: nothing was missing, damaged or cut off.
        damage: what was, a sentence each.
        begin_ns: log time of the first message on the topics of the replay.
        seconds: from that one to the last that could be read.
        recorded_seconds: the length that the bag's metadata tells, if it has any.
        messages: read, on the topics of the replay.
    """

    whole: bool
    damage: tuple[str, ...]
    begin_ns: int
    seconds: float
    recorded_seconds: float | None
    messages: int


class StreamSummary(_Record):
    """What became of one modality's messages; see `smvae_ros.synchronizer.stream.StreamCounts`.

    Attributes:
        recorded: messages in the bag; `received` are those that a what-if let through.
        publishers: on its topic while the bag was recorded, as far as the bag tells.
        lag_s: how much later than its stamp a message was logged: least and most; None where none had a stamp.
        rejected: sets that had to do without it, because its messages could not be converted.
        rejected_because: the first time.
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
    rejected: int
    rejected_because: str | None


class Drop(_Record):
    """A sense that is taken away: from `start` to `end` in seconds from the bag's start, `end` left out; None is open."""

    modality: str
    start: float = 0.0
    end: float | None = None


class WhatIf(_Record):
    """Faults that a replay puts on top of what was recorded.

    Attributes:
        drop: senses that are taken away.
        noise: by modality, standard deviation of what is added to its array, in model units.
        delay: by modality, seconds by which its messages arrive later; their stamps stay.
    """

    drop: tuple[Drop, ...] = ()
    noise: dict[str, float] = {}
    delay: dict[str, float] = {}


class ReplaySummary(_Record):
    """All that a replay of one bag found, and what it came from.

    Attributes:
        settings_sha256: of settings and what-if, as JSON.
        versions: of what computed it.
        warnings: what a reader of the figures should know of the bag, a sentence each.
        sets_by_subset: number of sets by their modalities, joined by `+`.
        evaluation: errors of the predictions from every subset against what was recorded. A row is over the sets that
            held all of its subset; a modality is judged where the bag has it, whether or not the set had.
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


class BagResult(_Record):
    """One bag among several.

    Attributes:
        bag: its path, from the folder that was named.
        folder: of its results, in the folder of all; None if it failed.
        sets: that went out.
        evaluation: as `ReplaySummary.evaluation`.
        damage: as `BagExtent.damage`.
        error: why it has no results.
    """

    bag: str
    folder: str | None
    sets: int = 0
    evaluation: Evaluation | None = None
    damage: tuple[str, ...] = ()
    error: str | None = None


class ReplaysSummary(_Record):
    """summary.json of several bags: each, and all together.

    Attributes:
        checkpoint: its name, and `what_if` as `ReplaySummary`.
        evaluation: of all bags together, every set weighing the same; None if all failed.
    """

    checkpoint: str
    what_if: WhatIf
    bags: tuple[BagResult, ...]
    sets: int
    evaluation: Evaluation | None


class Timing(_Record):
    """timing.json: what differs from run to run.

    Attributes:
        wall_seconds: reading, sets, inference and writing; without loading the model.
        bag_seconds_per_wall_second: how many times faster than the recording.
        inference_median_s: one set alone through the engine as in the node, everything predicted, one thread.
        inference_p99_s: the 99th percentile of the same.
        inference_sets: of how many sets.
    """

    wall_seconds: float
    bag_seconds_per_wall_second: float
    inference_median_s: float
    inference_p99_s: float
    inference_sets: int
