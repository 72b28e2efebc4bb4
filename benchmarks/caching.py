"""Building the cache, in MB of logs a second, against reading the same files and doing nothing with them."""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import RESULTS, Goal, report
from benchmarks.synthetic_logs import write_logs

_BLOCK = 1 << 20
_FILE_MB = 7.0
"""Disk that a log of full size and its part of the cache take."""


def _forget(paths: list[Path]) -> None:
    """Take the files out of the page cache, so that they come from the disk."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _read(paths: list[Path]) -> float:
    began = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
    return time.perf_counter() - began


def _build(logs: Path, cache: Path) -> float:
    # Not above: the reading processes import this script, and have no use for torch.
    from smvae_core.data.cache import cache_folder, cached_samples
    from smvae_core.data.formats.vision_touch import find_trajectories
    from smvae_core.modality import vision_touch_modalities

    modalities = vision_touch_modalities()
    began = time.perf_counter()
    cached_samples(find_trajectories(logs), modalities, cache_folder(logs, modalities, cache))
    return time.perf_counter() - began


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="where the synthetic logs are, or go; default a temporary one")
    arguments = parser.parse_args()
    reading, building, busy = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        where = arguments.folder or Path(temporary)
        where.mkdir(parents=True, exist_ok=True)
        needed, free = (arguments.files - len(list(where.glob("*.h5")))) * _FILE_MB, shutil.disk_usage(where).free / 1e6
        if needed > free:
            sys.exit(
                f"error: expected {needed:,.0f} MB on the disk of {where}, for logs and cache, found {free:,.0f}; "
                "name a folder on another disk with --folder, or fewer --files"
            )
        logs = write_logs(arguments.folder or Path(temporary) / "logs", arguments.files)
        paths = sorted(logs.glob("*.h5"))[: arguments.files]
        size = sum(path.stat().st_size for path in paths) / 1e6
        for number in range(arguments.rounds):
            _forget(paths)
            reading.append(_read(paths))
            _forget(paths)
            before = sum(os.times()[:4])
            building.append(_build(logs, cache := Path(temporary) / f"cache{number}"))
            busy.append(sum(os.times()[:4]) - before)
            shutil.rmtree(cache)
    disk, built = size / statistics.median(reading), size / statistics.median(building)
    workers = len(os.sched_getaffinity(0))
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    memory = peak[0] + workers * peak[1]
    report(
        "Caching",
        f"python -m benchmarks.caching --files {arguments.files}",
        f"{arguments.files} synthetic files of full size, {size:,.0f} MB, not in the page cache; {workers} processes. "
        f"The disk reads them at {disk:.0f} MB/s, the cache is built at {built:.0f} MB/s; medians of "
        f"{arguments.rounds} alternating rounds. Building took {statistics.median(building):.1f} s, in which its "
        f"processes had a processor for {statistics.median(busy):.1f} s together. Memory is the peak of the first "
        "process and of as many of the largest reading process.",
        [
            Goal("of the disk's own read rate", f"{built / disk:.2f}", "≥ 0.5", built / disk >= 0.5),
            Goal("memory, MB", f"{memory:.0f}", "< 1,000", memory < 1000),
        ],
        arguments.results,
    )


if __name__ == "__main__":
    main()
