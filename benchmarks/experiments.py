"""Copy the tables of finished experiments into RESULTS.md: `python -m benchmarks.experiments OUT …`.

Each OUT is a folder that `smvae reproduce` wrote. Nothing is trained or evaluated here.
"""

import argparse
import json
from pathlib import Path

from benchmarks.report import RESULTS, write_section
from smvae_core.reproduce.experiments import EXPERIMENTS
from smvae_core.reproduce.paired import Difference
from smvae_core.reproduce.report import sections
from smvae_core.reproduce.results import SystemResult


def main() -> None:
    """Write one section for each experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="+", help="folder of smvae reproduce")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write to")
    parser.add_argument("--note", default="", help="a sentence about the data, written before the settings")
    arguments = parser.parse_args()
    for out in arguments.out:
        content = json.loads((out / "results.json").read_text())
        experiment = EXPERIMENTS[content["experiment"]]
        results = [SystemResult.model_validate(result) for result in content["results"]]
        found = [Difference.model_validate(difference) for difference in content.get("differences", ())]
        told = [f"## Reproduced: {experiment.title}", f"`{content['command']}`", arguments.note]
        text = "\n\n".join([*filter(None, told), *sections(experiment, results, found)])
        write_section(f"Reproduced: {experiment.title}", text + "\n", arguments.results)


if __name__ == "__main__":
    main()
