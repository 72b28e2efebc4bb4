"""What memory costs a set in the node: the shipped model with its memory and without, in turn, trust left out of both.

    python -m benchmarks.node_memory

From a built package, on a quiet machine.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.node_latency import Run, run, summary
from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE
from smvae_core import checkpoint
from smvae_core.model.vae import MultimodalVAE

_MOST = 1.15


def write_both(folder: Path) -> dict[str, Path]:
    """Write the shipped checkpoint with memory and without it, neither with trust; return the files."""
    shipped = checkpoint.load(checkpoint.default_checkpoint())
    bare = MultimodalVAE(shipped.model.configuration.model_copy(update={"memory": None}))
    bare.load_state_dict({k: v for k, v in shipped.model.state_dict().items() if not k.startswith("memory.")})
    files = {name: folder / f"{name}.safetensors" for name in ("memory", "none")}
    for path, model in zip(files.values(), (shipped.model, bare.eval())):
        checkpoint.save(path, model, shipped.mean, shipped.metadata.training, None)
    return files


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = {"memory": [], "none": []}
    with TemporaryDirectory() as folder:
        files = write_both(Path(folder))
        for _ in range(arguments.rounds):
            for name, path in files.items():
                command = (*FUSION_NODE, "--ros-args", "-p", f"checkpoint:={path}")
                runs[name].append(run(command, arguments.seconds, "fastdds.xml"))
    ratio = statistics.median(a.set_ms / b.set_ms for a, b in zip(runs["memory"], runs["none"]))
    took = {name: summary(some).set_ms for name, some in runs.items()}
    report(
        "Memory in the node",
        "python -m benchmarks.node_memory",
        f"The rig of 'Node latency'; the shipped model with its memory and without, trust left out of both, "
        f"{arguments.rounds} rounds of {arguments.seconds:g} s in turn; processor time of the node for each set, "
        "everything counted in.",
        [
            Goal(
                "one set in the node, with memory against without",
                f"{ratio:.2f}× ({took['memory']:.1f} ms against {took['none']:.1f} ms)",
                f"≤ {_MOST}×",
                ratio <= _MOST,
            )
        ],
        arguments.results,
    )


if __name__ == "__main__":
    main()
