"""Run the node for half an hour at full rates while its sensors fall silent at random: memory, lost sets, warnings."""

import argparse
import statistics
from collections import Counter
from pathlib import Path
from time import monotonic, time_ns

import numpy as np
from smvae_ros.msg import FusionStatus

from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE, rig

_DRAIN_S = 2.0
# A tick whose stamp is this close to the first image after a silence stands for that image.
_TICK_NS = 50_000_000


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    memory: list[float] = []
    with rig(FUSION_NODE, dropouts=True) as (sensors, node, listener):
        listener.wait_for_latent(node)
        listener.listen(2.0)
        before = listener.status
        from_ns, began, busy_s = time_ns(), monotonic(), node.processor_s()
        while monotonic() - began < 60 * arguments.minutes:
            listener.listen(1.0)
            node.check()
            memory.append(node.memory_mb())
        cores = (node.processor_s() - busy_s) / (monotonic() - began)
        until_ns = time_ns()
        listener.listen(_DRAIN_S)
        after = listener.status
        images = sensors.end()["rgb"]
        warnings = sum("[WARN]" in line for line in node.output().splitlines())
    images = images[(images >= from_ns) & (images < until_ns)]
    latents = np.array(sorted(listener.arrived_ns), np.int64)
    missed = images[~np.isin(images, latents)]
    place = np.searchsorted(latents, missed)
    earlier, later = latents[np.maximum(place - 1, 0)], latents[np.minimum(place, len(latents) - 1)]
    near = np.minimum(np.abs(missed - earlier), np.abs(later - missed))
    returns = np.diff(images, prepend=from_ns)[~np.isin(images, latents)] > _TICK_NS * 2
    ticked = int((returns & (near < _TICK_NS)).sum())
    lost = len(missed) - ticked
    # Without the first minute, if the run is longer than that.
    settled = memory[60:] or memory
    fifth = max(1, len(settled) // 5)
    first, last = statistics.median(settled[:fifth]), statistics.median(settled[-fifth:])
    growth, warned = last / first - 1, warnings / arguments.minutes
    report(
        "Soak",
        f"python -m benchmarks.soak --minutes {arguments.minutes:g}",
        f"{arguments.minutes:g} minutes at full rates; each topic falls silent at random, about every 10 s for up to "
        f"3 s. {len(images)} images, {len(latents)} latents; {ticked} images were the first after a silence and came "
        "just after the tick that stood in for them, which is the moment's set. Memory is the node's own (anonymous), "
        f"the median of the last fifth ({last:.1f} MB) against that of the first ({first:.1f} MB) after the first "
        f"minute. By the node's count, {_fates(before, after)}. It took {100 * cores:.0f} % of a core.",
        [
            Goal("growth of memory", f"{100 * growth:+.2f} %", "< 1 %", growth < 0.01),
            Goal(f"sets lost of {len(images)}", str(lost), "0", not lost),
            Goal("warnings a minute", f"{warned:.2f}", "≤ 12", warned <= 12),
        ],
        arguments.results,
    )


def _fates(before: FusionStatus, after: FusionStatus) -> str:
    """Return what became of the images and sets without a latent, by the node's own count."""
    images, earlier = (next(one for one in status.modalities if one.name == "rgb") for status in (after, before))
    dropped = Counter(dict(zip(images.drop_reasons, images.drop_counts)))
    dropped.subtract(dict(zip(earlier.drop_reasons, earlier.drop_counts)))
    reasons = "".join(f", {number} were dropped as {reason}" for reason, number in sorted(dropped.items()) if number)
    return (
        f"{images.lost - earlier.lost} images never reached it{reasons}, and "
        f"{after.skipped - before.skipped} sets were overtaken by a newer one"
    )


if __name__ == "__main__":
    main()
