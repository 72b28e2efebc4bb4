"""Video of LeRobot data sets into the cache, against PyAV alone that decodes the same frames one after the other."""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch

from benchmarks.report import Goal, report
from smvae_core.data.cache import cache_folder, cached_samples
from smvae_core.data.formats.lerobot import LEROBOT
from smvae_core.data.formats.lerobot_writer import write_lerobot
from smvae_core.data.loader import Loader
from smvae_core.data.samples import Samples
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB

_KEY, _FPS, _BATCH = "observation.images.front", 30, 100
_MODALITY = Modality(name="front", source=_KEY, preprocessing=RGB(), network="image", likelihood="bernoulli")


def _episode(number: int, frames: int) -> dict[str, np.ndarray]:
    """A moving gradient with a little noise, of the size of a common camera."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[0:360, 0:640].astype(np.float32)
    pictures = np.empty((frames, 360, 640, 3), np.uint8)
    for step, picture in enumerate(pictures):
        base = 127 + 90 * np.sin((columns + 6 * step) / 70) * np.cos((rows - 3 * step) / 50)
        picture[:] = np.clip(base[..., None] + random.normal(0, 4, (360, 640, 1)), 0, 255)
    return {_KEY: pictures, "action": random.normal(size=(frames, 6))}


def _alone(videos: list[Path]) -> float:
    """Seconds that PyAV takes to decode all frames to RGB, with one thread as the reading processes have."""
    began = time.perf_counter()
    for path in videos:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                frame.to_ndarray(format="rgb24")
    return time.perf_counter() - began


def _caching(data: Path, cache: Path) -> tuple[float, Samples]:
    began = time.perf_counter()
    folder = cache_folder(data, (_MODALITY,), cache)
    samples = cached_samples(LEROBOT.find(data), (_MODALITY,), folder, workers=1, form=LEROBOT).samples
    return time.perf_counter() - began, samples


def _batches(samples: Samples, batches: int) -> float:
    """Samples a second out of the cache, in random order."""
    order = np.resize(np.random.default_rng(0).permutation(len(samples)), batches * _BATCH)
    began = time.perf_counter()
    for _ in Loader(samples, torch.device("cpu")).batches(np.split(order, batches)):
        pass
    return batches * _BATCH / (time.perf_counter() - began)


def measure(frames: int, rounds: int, results: Path, logs: Samples) -> None:
    """Measure, and report.

    Args:
        frames: of each of the three made episodes.
        logs: samples of HDF5 logs whose first modality is a picture of the same size.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        write_lerobot(data, _FPS, ([_episode(n, frames)] for n in range(3)), "benchmark")
        videos = sorted(data.rglob("*.mp4"))
        pictures = replace(logs, modalities=logs.modalities[:1], available=logs.available[:, :1])
        alone, caching, speed, plain = [], [], [], []
        for number in range(rounds):
            alone.append(_alone(videos))
            seconds, samples = _caching(data, Path(temporary) / f"cache{number}")
            caching.append(seconds)
            speed.append(_batches(samples, 200))
            plain.append(_batches(pictures, 200))
    sequential, cached = len(samples) / statistics.median(alone), len(samples) / statistics.median(caching)
    against = statistics.median(speed) / statistics.median(plain)
    report(
        "LeRobot",
        "python -m benchmarks.loader",
        f"{len(samples)} frames of 360×640 (H.264, a key frame every second frame, as LeRobot writes them), three "
        "episodes in one video, into a cache of 64×64 by one process. Against it PyAV alone, which decodes the frames "
        f"to RGB of full size one after the other with one thread ({sequential:.0f} frames/s). Then random batches of "
        f"{_BATCH} pictures from this cache, against those from the cache of HDF5 logs. Medians of {rounds} "
        f"alternating rounds: {cached:.0f} frames/s into the cache, {statistics.median(speed):,.0f} pictures/s out.",
        [
            Goal(
                "caching, of PyAV's sequential rate",
                f"{cached / sequential:.2f}",
                "≥ 0.7",
                cached >= 0.7 * sequential,
                "1 (PyAV)",
            ),
            Goal("pictures from the cache, against HDF5 logs", f"{against:.2f}", "≥ 0.9", against >= 0.9),
        ],
        results,
    )
