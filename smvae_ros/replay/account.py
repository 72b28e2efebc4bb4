"""The account of a bag that was turned into logs: what became of every message."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from smvae_ros.replay.turns import in_turn

CONSIDERABLE = 0.05
"""The share of messages or rows from which on a loss is worth a warning."""

NO_SET = "in no set"
"""Reason of messages that no set could take, such as those of a stream that is faster than the reference."""

ALONE = "in a set alone between two gaps"
"""Reason of messages in a set that makes no trajectory, because the sets before and after it are cut off from it."""

DAMAGED = "damaged"

UNREAD = "cut off or missing"
"""Reason of messages that the bag's metadata counts and that could not be read."""

_SPARE = (NO_SET, "overflow")
"""Reasons of messages that no set had room for. They are a loss only where sets lack the modality."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalityAccount(_Record):
    """The account of the messages of one modality: `messages` is `used` plus the sum of `dropped`.

    Attributes:
        topic: topic in the bag.
        publishers: number of publishers on the topic while the bag was recorded, as far as the bag tells.
        mixed: why the messages look like those of two publishers, where the bag tells of one; empty if they do not.
        recorded: number of messages by the bag's metadata, or else by the index of its files; None without both.
        messages: number of messages in the bag; without metadata, as far as it could be read.
        used: number of messages that stand in a log.
        rows: number of rows of the logs that hold the modality.
        dropped: number of messages by the reason why they stand in no log.
        rate: usual number of messages in a second, by their stamps; None for fewer than two messages.
        gaps: number of silences of more than five times the usual spacing.
        longest_gap: longest time between two messages, in seconds.
    """

    topic: str
    publishers: int
    recorded: int | None
    messages: int
    used: int
    rows: int
    dropped: dict[str, int]
    rate: float | None
    gaps: int
    longest_gap: float
    mixed: str = ""


class TrajectoryAccount(_Record):
    """One trajectory: its number of rows, the stamps of its first and last row, and why it ended."""

    name: str
    rows: int
    begin_ns: int
    end_ns: int
    ended: str


class BagAccount(_Record):
    """The account of a bag.

    Attributes:
        bag: name of the bag.
        modalities: account of each modality.
        damage: sentences on what is missing, damaged or cut off.
        foreign: number of messages in channels that hold no ROS 2 messages, by a description of the channel.
        sets: number of sets in the bag.
        rows: number of sets that were written as rows.
        splits: why trajectories ended, with the number of times.
        trajectories: the trajectories, in order.
        timeouts: by modality, the timeout in seconds that was taken, because the stream is slower than the one set.
        seconds: time from the first to the last message that was read.
    """

    bag: str
    modalities: dict[str, ModalityAccount]
    damage: tuple[str, ...]
    foreign: dict[str, int]
    sets: int
    rows: int
    splits: dict[str, int]
    trajectories: tuple[TrajectoryAccount, ...]
    timeouts: dict[str, float] = {}
    seconds: float = 0.0

    def losses(self) -> list[str]:
        """Return sentences on considerable losses, for a warning."""
        found = list(self.damage)
        for name, modality in self.modalities.items():
            found += [f"{name}: {sentence}" for sentence in _losses(modality, self.sets, self.seconds)]
        if self.sets - self.rows > CONSIDERABLE * self.sets:
            found.append(f"{self.rows} of {self.sets} sets were written; trajectories ended by {in_words(self.splits)}")
        return found

    def fates(self) -> str:
        """Return what became of the messages of each modality, in a sentence."""
        return "; ".join(
            f"{name}: {modality.messages} messages on {modality.topic}"
            + (f", of which {in_words(modality.dropped)}" if modality.dropped else "")
            for name, modality in self.modalities.items()
        )


def in_words(counts: dict[str, int]) -> str:
    """Return counts by reason in words, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} × {reason}" for reason, count in ordered)


def _losses(modality: ModalityAccount, sets: int, seconds: float) -> Iterator[str]:
    spare = () if _is_missed(modality, sets, seconds) else _SPARE
    lost = {reason: count for reason, count in modality.dropped.items() if reason not in (*spare, UNREAD)}
    if unread := modality.dropped.get(UNREAD, 0):
        yield f"{modality.messages - unread:,} of {modality.messages:,} messages on {modality.topic} could be read"
    if modality.publishers > 1:
        yield f"{modality.publishers} publishers on {modality.topic}, whose messages went into one stream"
    elif modality.mixed:
        yield in_turn(modality.topic, modality.mixed)
    if "disabled" in modality.dropped:
        return
    if not modality.used:
        reasons = f": {in_words(modality.dropped)}" if modality.dropped else ""
        yield f"none of {modality.messages:,} messages on {modality.topic} stands in a log{reasons}"
    elif sum(lost.values()) > CONSIDERABLE * modality.messages:
        total = sum(lost.values())
        yield f"{total:,} of {modality.messages:,} messages on {modality.topic} were lost: {in_words(lost)}"


def _is_missed(modality: ModalityAccount, sets: int, seconds: float) -> bool:
    """Return whether sets lack the modality at times when it had messages: these are too far away, or wrongly stamped.

    A stream that comes and goes, begins late or ends early is not missed where it sends nothing usable.
    """
    if modality.rate is None or not seconds:
        return False
    usable = modality.used + sum(modality.dropped.get(reason, 0) for reason in _SPARE)
    sending = min(1.0, usable / modality.rate / seconds)
    return modality.rows < (1 - CONSIDERABLE) * min(usable, sets * sending) - 1
