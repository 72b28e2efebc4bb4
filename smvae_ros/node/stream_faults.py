"""The words for messages that arrive and can be read, but mean nothing: what is wrong, and what to do about it."""

from __future__ import annotations

from smvae_ros.synchronizer.stream import Stream

# A fault of single messages is a fault of the stream if it concerns more than this part of them.
_MOST = 0.5
_FEWEST = 4
# A moving robot's camera hardly shows the same pixels twice; this many pictures take some seconds.
_MOST_REPEATED = 150


def repeated_stamps(received: int, duplicates: int) -> str:
    """Return the words for a stream whose stamps repeat; "" for any other.

    Args:
        received: messages in some time.
        duplicates: how many of them had the stamp of an earlier one.
    """
    if received < _FEWEST or duplicates <= _MOST * received:
        return ""
    return (
        f"stamps repeat: {duplicates} of {received} messages have the stamp of an earlier one; "
        "the driver hangs, or sends bursts under one stamp"
    )


def repeated_picture(repeated: int) -> str:
    """Return the words for a camera that sends one picture again and again; "" for any other.

    Args:
        repeated: how many messages in a row had the same picture as the one before.
    """
    if repeated < _MOST_REPEATED:
        return ""
    return f"the same picture {repeated + 1} times in a row; the camera or its driver hangs, or nothing moves before it"


def stretched_windows(stream: Stream, stretched: int, span_ns: int) -> str:
    """Return the words for windows that span far more time than their samples should take; "" if there are none.

    Args:
        stream: with its window and period.
        stretched: number of such windows in some time.
        span_ns: from the oldest to the newest sample of the last window.
    """
    if not stretched:
        return ""
    return (
        f"windows of {stream.window} samples span {span_ns / 1e6:.0f} ms, expected about "
        f"{(stream.window - 1) * stream.period_ns / 1e6:.0f} ms (streams.{stream.name}.period): the sensor is slower "
        "than the one that the model was trained with, or period is wrong"
    )
