"""Frames of one episode out of an MP4, by PyAV: H.264, AV1 and whatever else its FFmpeg decodes."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smvae_core.data.formats.protocol import LogError

if TYPE_CHECKING:  # PyAV is an extra, and processes that read no video need not load it
    from av import VideoStream
    from av.container import InputContainer

# Rates that differ by less count as equal: 29.97 frames a second are often called 30.
_RATE_TOLERANCE = 0.01


class EpisodeFrames:
    """The pictures of one camera in one episode, uint8 RGB (H, W, 3), decoded while they are iterated.

    Args:
        told: the start of every error: the episode, the feature and the video.
        start: time of the first frame in the video, in seconds.
        length: number of frames.
        rate: frames a second, of the data set.
        size: side of the square that each picture is resized to; None keeps the size of the video.
    """

    def __init__(self, told: str, path: Path, start: float, length: int, rate: float, size: int | None) -> None:
        self._told, self._path, self._start, self._length = told, path, start, length
        self._rate, self._size = rate, size

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        av = import_av(self._told)
        with opened_video(self._told, self._path) as (container, stream):
            check_rate(self._told, stream, self._rate)
            try:
                yield from self._pictures(container, stream)
            except av.FFmpegError as error:
                raise LogError(f"{self._told}: the video is damaged ({error})") from None

    def _pictures(self, container: "InputContainer", stream: "VideoStream") -> Iterator[np.ndarray]:
        av = import_av(self._told)
        # As many processes read as there are processors, so each decodes with one thread.
        stream.codec_context.thread_count = 1
        if self._start > 0 and stream.time_base is not None:
            container.seek(int(self._start / stream.time_base), stream=stream, backward=True)
        # Resized by area before the conversion to RGB, which is much faster than after it.
        size = {} if self._size is None else {"width": self._size, "height": self._size, "interpolation": "AREA"}
        converter = av.video.reformatter.VideoReformatter()
        done, half = 0, 0.5 / self._rate
        for frame in container.decode(stream):
            expected = self._start + done / self._rate
            if frame.time is None or frame.time < expected - half:
                continue
            if frame.time > expected + half:
                raise LogError(
                    f"{self._told}: expected a frame at {expected:.3f} s, found the next at {frame.time:.3f} s"
                )
            yield converter.reformat(frame, format="rgb24", **size).to_ndarray()
            done += 1
            if done == self._length:
                return
        raise LogError(f"{self._told}: expected {self._length} frames from {self._start:.3f} s on, found {done}")


@contextmanager
def opened_video(told: str, path: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open a video and its first stream of pictures.

    Raises:
        LogError: the video is missing or damaged, has no pictures, or its codec is unknown.
    """
    av = import_av(told)
    if not path.is_file():
        raise LogError(f"{told}: no such file; expected the video of this feature")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise LogError(f"{told}: expected a whole video, found one that cannot be opened ({error})") from None
    with container:
        if not container.streams.video:
            raise LogError(f"{told}: expected a video, found a file without pictures")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise LogError(f"{told}: expected a codec that FFmpeg decodes, such as H.264 or AV1, found an unknown one")
        yield container, stream


def check_rate(told: str, stream: "VideoStream", rate: float) -> None:
    """Raise the LogError for a video whose frame rate is not that of the data set."""
    found = stream.average_rate
    if found is not None and abs(float(found) / rate - 1) > _RATE_TOLERANCE:
        raise LogError(
            f"{told}: expected {rate:g} frames a second, as meta/info.json says, found a video of {float(found):g}"
        )


def import_av(told: str) -> Any:
    """Return PyAV.

    Raises:
        LogError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise LogError(f"{told}: videos need PyAV ({error}): pip install 'smvae_ros[lerobot]'") from None
