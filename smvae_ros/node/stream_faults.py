"""The words for messages that arrive and can be read, but mean nothing: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from smvae_ros.node.message_sources import MessageSources
from smvae_ros.synchronizer.stream import Stream

# Stamps that repeat are a fault of the stream if they are more than this part of them. Two under each stamp are half.
_MOST = 0.4
_FEWEST = 4
# A moving robot's camera hardly shows the same pixels twice; this many pictures take some seconds.
_MOST_REPEATED = 150
# Seconds of a force/torque sensor.
_STILL_S = 5
# A moving scene gives hardly any; a driver that sends each picture twice gives half.
_FEWEST_REPEATED = 0.25
_FEWEST_CHANGES = 2
# Of a part of the messages. Where nearly all are too late, or ahead, the stamps are of another clock.
_FEWEST_SCATTERED, _MOST_SCATTERED = 0.2, 0.9
_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_YEAR_S = 365.25 * _DAY_S


def repeated_stamps(received: int, duplicates: int, *, simulated: bool = False) -> str:
    """Return the words for a stream whose stamps repeat; "" for any other.

    Args:
        received: messages in some time.
        duplicates: how many of them had the stamp of an earlier one.
        simulated: whether the node's clock is `/clock`.
    """
    if received < _FEWEST or duplicates <= _MOST * received:
        return ""
    coarse = ", or /clock comes less often than its messages" if simulated else ""
    return (
        f"stamps repeat: {duplicates} of {received} messages have the stamp of an earlier one; "
        f"the driver hangs, or sends bursts under one stamp{coarse}"
    )


def scattered_stamps(received: int, late: int, future: int, lags_s: tuple[float, float], max_wait_s: float) -> str:
    """Return the words for a stream of which a part comes too late or has stamps too far ahead; "" for any other.

    Args:
        received: messages in some time.
        late: how many of them came after their sets had gone.
        future: how many of them were dropped because their stamps lie ahead.
        lags_s: the least and the most by which they arrived after their stamps, by the node's clock.
        max_wait_s: for how long sets wait.
    """
    part = late + future >= _FEWEST_SCATTERED * received and max(late, future) <= _MOST_SCATTERED * received
    if received < _FEWEST or not part:
        return ""
    if future > late:
        return (
            f"{future} of {received} messages are dropped, whose stamps are up to {span(-lags_s[0])} ahead of the "
            "node's clock: the driver's stamps jump"
        )
    return (
        f"{late} of {received} messages come after their sets, up to {span(lags_s[1])} after their stamps, and sets "
        f"wait {max_wait_s:g} s (max_wait): the driver is slow now and then, or its stamps jump"
    )


def repeated_pictures(received: int, repeated: int, in_a_row: int, different: int = 1) -> str:
    """Return the words for a camera that repeats pictures; "" for any other.

    Args:
        received: pictures in some time.
        repeated: how many of them were the same as one just before.
        in_a_row: how many pictures up to now were the same as one just before.
        different: how many different pictures these are.
    """
    if in_a_row >= _MOST_REPEATED:
        number = in_a_row + different
        same = "the same picture" if different == 1 else f"the same {different} pictures in turn,"
        return f"{same} {number} times in a row; the camera or its driver hangs, or nothing moves before it"
    # Those up to now may be the first of a camera that hangs.
    if received < _FEWEST or repeated - min(repeated, in_a_row) < _FEWEST_REPEATED * received:
        return ""
    return (
        f"{repeated} of {received} pictures are the same as the one before, but new ones come: "
        "the driver sends more often than the camera takes pictures"
    )


def repeated_numbers(received: int, in_a_row: int) -> str:
    """Return the words for a force/torque sensor whose numbers stand still, which noise never lets; "" for any other.

    Args:
        received: messages in about a second.
        in_a_row: how many messages up to now brought the numbers of the one before.
    """
    if received < _FEWEST or in_a_row < max(_MOST_REPEATED, _STILL_S * received):
        return ""
    return f"the same numbers {in_a_row + 1} times in a row; the sensor or its driver hangs, or nothing moves"


def mixed_sources(received: int, changes: int, publishers: Sequence[str], sources: MessageSources) -> str:
    """Return the words for a topic on which several sources are mixed; "" for any other.

    Args:
        received: messages in some time.
        changes: how many of them came from another source than the one before.
        publishers: names of the nodes that publish on the topic.
        sources: with frames and sizes.
    """
    # One may be a publisher that was restarted.
    if changes < _FEWEST_CHANGES:
        return ""
    found = [f"publishers {', '.join(publishers)}"] if len(publishers) > 1 else []
    found += [f"frames {' and '.join(sources.frames)}"] if len(sources.frames) > 1 else []
    found += [f"pictures of {' and '.join(map(str, sources.sizes))} bytes"] if len(sources.sizes) > 1 else []
    return (
        f"messages of several sources are mixed, {changes} of {received} come after one of another source "
        f"({'; '.join(found) or 'several publishers'}); let each publish on a topic of its own"
    )


def stretched_windows(stream: Stream, stretched: int, span_ns: int) -> str:
    """Return the words for windows that were left out because they span too much time; "" if there are none.

    Args:
        stream: with its window and period.
        stretched: number of such windows in some time.
        span_ns: from the oldest to the newest sample of the last window.
    """
    if not stretched:
        return ""
    return (
        f"{stretched} windows of {stream.window} samples span {span_ns / 1e6:.0f} ms, expected about "
        f"{(stream.window - 1) * stream.period_ns / 1e6:.0f} ms (streams.{stream.name}.period), and count as absent: "
        "the sensor is slower than the one that the model was trained with, samples are missing, or period is wrong"
    )


def span(seconds: float) -> str:
    """Return a length of time in words, in the unit that suits it."""
    for unit, name in ((_YEAR_S, "years"), (_DAY_S, "days"), (_HOUR_S, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{1e3 * seconds:.0f} ms"
