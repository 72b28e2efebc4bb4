"""How many times faster than it was recorded a bag is replayed, and what memory a long one takes.

The recording that ships, and an hour of it: the same messages over and over, each time later, in a temporary folder
(TMPDIR) that needs some 800 MB.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any

import torch
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bag_reading import against_rosbags
from benchmarks.report import RESULTS, Goal, report
from smvae_core import checkpoint
from smvae_core.inference.decoding import ModalityDecoder
from smvae_ros.replay.inference import ROWS
from smvae_ros.replay.subsets import replayed_subsets
from smvae_ros.replay.threads import undisturbed

_RECORDING = Path(__file__).parents[1] / "recordings" / "peg_insertion"
_SPACING_NS = 40_000_000_000


def looped(bag: Path, out: Path, seconds: float) -> None:
    """Write a bag's messages over and over, 40 s later each time, stamps too, until it is so long."""
    with AnyReader([bag]) as reader:
        writer = Writer(out, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            connections = {
                c.id: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore) for c in reader.connections
            }
            for turn in range(max(1, round(seconds * 1e9 / _SPACING_NS))):
                later_ns = turn * _SPACING_NS
                for connection, log_ns, content in reader.messages():
                    # CDR: four bytes that say so, then the stamp, with which every message here begins.
                    stamp_ns = int.from_bytes(content[4:8], "little") * 1_000_000_000 + later_ns
                    stamp = (stamp_ns // 1_000_000_000).to_bytes(4, "little")
                    moved = bytes(content[:4]) + stamp + bytes(content[8:])
                    writer.write(connections[connection.id], log_ns + later_ns, moved)


def measured(bag: Path, threads: int, subset_rate: float | None = None) -> dict[str, Any]:
    """Replay in a process of its own: what timing.json says, and the most memory that it had (MB)."""
    code = (
        "import json, resource, sys; from pathlib import Path;"
        "from smvae_ros.replay.job import ReplayJob; from smvae_ros.replay.run import replay;"
        "job = ReplayJob(device='cpu', subset_rate=json.loads(sys.argv[4]));"
        "replay(Path(sys.argv[1]), Path(sys.argv[2]), job, int(sys.argv[3]));"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000))"
    )
    with TemporaryDirectory() as out:
        command = [sys.executable, "-c", code, str(bag), out, str(threads), json.dumps(subset_rate)]
        memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return {**json.loads((Path(out) / "timing.json").read_text()), "memory": memory}


def decoding() -> Goal:
    """Return what it takes to decode the images of one set from all of its subsets, and what it takes at least."""
    model = checkpoint.load(checkpoint.default_checkpoint()).model.eval()
    modalities = list(model.modalities.values())
    images, subsets = [one.name for one in modalities if one.is_image], len(replayed_subsets(modalities))
    z = torch.randn(ROWS["cpu"], model.configuration.latent)
    square = torch.randn(1024, 1024)
    with undisturbed(), torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model.predict(z, images)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        decoders = [ModalityDecoder(model, name) for name in images]
        product_s = _least_s(lambda: square @ square)
        decoded_s = sum(_least_s(partial(decoder.expectation, z)) for decoder in decoders)
    least_s = counter.get_total_flops() * product_s / (2 * len(square) ** 3)
    took, least = (f"{1000 * seconds * subsets / len(z):.1f}" for seconds in (decoded_s, least_s))
    return Goal(
        f"decoding the images of one set from {subsets} subsets: ms of the processor",
        took,
        "(for comparison)",
        True,
        limit=f"{least} (its multiplications as one product of matrices)",
    )


def _least_s(work: Callable[[], object]) -> float:
    work()
    took = []
    for _ in range(20):
        began = thread_time()
        work()
        took.append(thread_time() - began)
    return min(took)


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the long bag")
    parser.add_argument("--rounds", type=int, default=3, help="of the short bag; the median counts")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    # In turn, so that a busy minute takes from both.
    turns = [(measured(_RECORDING, threads), measured(_RECORDING, threads, 0.0)) for _ in range(arguments.rounds)]
    short, every = (sorted(rows, key=lambda row: row["wall_seconds"])[arguments.rounds // 2] for rows in zip(*turns))
    with TemporaryDirectory() as folder:
        bag = Path(folder) / "hour"
        looped(_RECORDING, bag, arguments.seconds)
        long = measured(bag, threads)
    name = f"{arguments.seconds / 60:g} minutes of it"
    report(
        "Replay",
        "make bench BENCHMARKS=replay",
        "Bag seconds for each second of wall clock, with the compact checkpoint that ships, images from all 15 subsets "
        f"in 5 sets a second, as of any bag of more than 30 s, {threads} threads; from the opened bag to the written "
        "results, drawing the sheet included, without loading the model. The recording is 40 s of peg insertion at "
        f"20 Hz; the median of {arguments.rounds} rounds. Memory is the most that the process had, torch included.",
        [
            Goal(
                f"{what}: bag seconds a second",
                f"{row['bag_seconds_per_wall_second']:.1f}",
                "≥ 10",
                row["bag_seconds_per_wall_second"] >= 10.0,
            )
            for what, row in (("the recording", short), (name, long))
        ]
        + [
            Goal(
                "the recording, images of every set from all subsets: bag seconds a second",
                f"{every['bag_seconds_per_wall_second']:.1f}",
                "(for comparison)",
                True,
            ),
            Goal(
                f"memory, {name} against the recording",
                f"{long['memory']:.0f} MB against {short['memory']:.0f} MB",
                "at most 1.2 times",
                long["memory"] <= 1.2 * short["memory"],
            ),
            Goal(
                "one set alone through the engine as in the node, median and p99",
                f"{1000 * short['inference_median_s']:.1f} ms, {1000 * short['inference_p99_s']:.1f} ms",
                "(for comparison)",
                True,
            ),
            decoding(),
            against_rosbags(_RECORDING, max(3, arguments.rounds)),
        ],
        arguments.results,
    )


if __name__ == "__main__":
    main()
