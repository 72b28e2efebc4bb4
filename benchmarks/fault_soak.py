"""Run the node for half an hour while its sensors fail in random ways: no set with a usable modality may be lost.

    python -m benchmarks.fault_soak --minutes 5 --seed 1

Sensors fall silent, come late or in bursts, lie about their stamps, and send what cannot be read or means nothing.
"""

import argparse
from pathlib import Path
from time import monotonic, time_ns

import numpy as np

from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE, Listener, rig

_DRAIN_S = 2.0
# A tick whose stamp is this close to the first image after a fault stands for that image.
_TICK_NS = 50_000_000
# The longest timeout of a stream, a tick, and the longest wait of a set: then ticks stand in for a camera that fails.
_TAKEOVER_NS = 700_000_000


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rates", type=float, default=1.0, help="factor of the sensors' rates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with rig(FUSION_NODE, faults=arguments.seed, rates=arguments.rates) as (sensors, node, listener):
        listener.wait_for_latent(node)
        listener.listen(3.0)
        from_ns, began, busy_s = time_ns(), monotonic(), node.processor_s()
        while monotonic() - began < 60 * arguments.minutes:
            listener.listen(1.0)
            node.check()
        cores = (node.processor_s() - busy_s) / (monotonic() - began)
        until_ns, memory = time_ns(), node.memory_mb()
        listener.listen(_DRAIN_S)
        healthy = sensors.end()
        warnings = [line for line in node.output().splitlines() if "[WARN]" in line]
    healthy = {name: stamps[(stamps >= from_ns) & (stamps < until_ns)] for name, stamps in healthy.items()}
    lost = _lost_images(healthy["rgb"], listener)
    silences = _silences(healthy, listener, from_ns, until_ns)
    unaccounted = [
        one.name for one in listener.status.modalities if not 0 <= one.received - one.used - sum(one.drop_counts) <= 250
    ]
    report(
        "Soak with faults",
        f"python -m benchmarks.fault_soak --minutes {arguments.minutes:g}",
        f"{arguments.minutes:g} minutes, {sum(sensors.faults.values())} faults of {len(sensors.faults)} kinds in four "
        f"sensors, for 0.3 to 4 s each, about every 6 s of each sensor. {len(healthy['rgb'])} healthy images, "
        f"{len(listener.arrived_ns)} latents, {listener.status.skipped} sets overtaken, {len(warnings)} warnings. "
        f"It took {100 * cores:.0f} % of a core and {memory:.0f} MB.",
        [
            Goal(f"healthy images without a set, of {len(healthy['rgb'])}", str(len(lost)), "0", not lost),
            Goal("silences of more than 0.7 s while a sensor was healthy", str(silences), "0", not silences),
            Goal("modalities whose samples do not add up", str(len(unaccounted)), "0", not unaccounted),
        ],
        arguments.results,
    )


def _lost_images(images: np.ndarray, listener: Listener) -> list[int]:
    """Return the stamps of images that have no set, nor a tick that stands for them."""
    latents = np.array(sorted(listener.arrived_ns), np.int64)
    places = np.searchsorted(latents, images)
    earlier, later = latents[np.maximum(places - 1, 0)], latents[np.minimum(places, len(latents) - 1)]
    near = np.minimum(np.abs(images - earlier), np.abs(later - images))
    after_a_fault = np.diff(images, prepend=0) > 2 * _TICK_NS
    return [int(one) for one in images[(near > 0) & ~(after_a_fault & (near < _TICK_NS))]]


def _silences(healthy: dict[str, np.ndarray], listener: Listener, from_ns: int, until_ns: int) -> int:
    """Return how often no latent arrived for a while, although one sensor was healthy all the time."""
    arrivals = np.array(sorted(listener.arrived_ns.values()), np.int64)
    arrivals = arrivals[(arrivals >= from_ns) & (arrivals <= until_ns)]
    found = 0
    for begin_ns, end_ns in zip(arrivals, arrivals[1:]):
        if end_ns - begin_ns > _TAKEOVER_NS:
            inside = [stamps[(stamps > begin_ns) & (stamps < end_ns)] for stamps in healthy.values()]
            gaps = [np.diff(each, prepend=begin_ns, append=end_ns).max() for each in inside]
            found += min(gaps) < _TAKEOVER_NS / 4
    return found


if __name__ == "__main__":
    main()
