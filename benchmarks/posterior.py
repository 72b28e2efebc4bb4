"""How far a checkpoint's posterior tells the truth on held-out logs, against an earlier checkpoint on the same logs.

z² and coverage of every subset, KL and active dimensions, the cost of a blind or half-blind camera, and errors.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.report import RESULTS, Goal, report
from smvae_core import checkpoint
from smvae_core.calibration import Calibration
from smvae_core.checkpoint import Checkpoint
from smvae_core.data.samples import Samples
from smvae_core.data.splits import calibration_and_test
from smvae_core.evaluation.calibration import calibrate
from smvae_core.evaluation.held_out import read_logs_to_judge
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.scores import Evaluation, normalised
from smvae_core.subsets import Subset, all_subsets, evenly, subset_mask

_BATCH = 64


class Figures(NamedTuple):
    """What one checkpoint shows.

    Attributes:
        calibration: z², coverage and KL by subset.
        errors: NMSE by subset and modality.
        blind: by case, subset and other modality, the NMSE with a camera that is blank or half blank, and that without
            this camera.
    """

    calibration: Calibration
    errors: Evaluation
    blind: dict[tuple[str, Subset, str], tuple[float, float]]


def figures(loaded: Checkpoint, data: Path, held_out: tuple[str, ...], most: int) -> Figures:
    """Measure a checkpoint on the held-out trajectories of another run, or its own.

    Args:
        data: folder with the logs.
        held_out: trajectories to measure on.
        most: number of samples of each part.
    """
    record = loaded.metadata.training
    assert record is not None, "a checkpoint without a training record"
    metadata = loaded.metadata.model_copy(update={"training": record.model_copy(update={"held_out": held_out})})
    unseen, _ = read_logs_to_judge(metadata, data, True, None, False, Console(stderr=True))
    tested = calibration_and_test(unseen)[1]
    return Figures(
        calibrate(loaded.model, unseen, most=most),
        evaluate(loaded.model, tested, loaded.mean, most=most),
        _blind(loaded, tested, most),
    )


def _blind(loaded: Checkpoint, samples: Samples, most: int) -> dict[tuple[str, Subset, str], tuple[float, float]]:
    """Measure the model alone: in the engine a blank image is absent, before the model sees it."""
    model, names = loaded.model, loaded.model.names
    cameras = [name for name, modality in model.modalities.items() if modality.is_image]
    sums: dict[tuple[str, Subset, str], list[float]] = {}
    index = evenly(len(samples), most)
    with torch.inference_mode():
        for rows in np.array_split(index, -(-len(index) // _BATCH)):
            batch, available = samples.batch(rows)
            for camera in cameras:
                others = [s for s in all_subsets(names) if camera in s and len(s) > 1]
                without = [tuple(name for name in s if name != camera) for s in others]
                for case, image in _blinded(batch[camera]):
                    embeddings = model.embed(batch | {camera: image}, available)
                    for subset, rest in zip(others, without):
                        spoiled, whole = (
                            model.predict(model.fuse(embeddings, mask.expand_as(available)).mean)
                            for mask in subset_mask(names, [subset, rest])
                        )
                        for name in set(names) - {camera}:
                            entry = sums.setdefault((f"{camera} {case}", subset, name), [0.0, 0.0, 0.0])
                            for k, x in enumerate((spoiled[name], whole[name], loaded.mean[name])):
                                entry[k] += float((x - batch[name]).double().square().flatten(1).mean(dim=1).sum())
    return {
        key: (normalised(bad, trivial) or 0.0, normalised(good, trivial) or 0.0)
        for key, (bad, good, trivial) in sums.items()
    }


def _blinded(image: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "blank", torch.zeros_like(image)
    for axis, sides in ((3, ("left", "right")), (2, ("upper", "lower"))):
        half = image.shape[axis] // 2
        for k, side in enumerate(sides):
            spoiled = image.clone()
            spoiled.narrow(axis, k * half, half).zero_()
            yield f"{side} half blank", spoiled


def rows(new: Figures, old: Figures | None) -> list[Goal]:
    """Return the rows of the section."""
    z2 = {row.subset: row.z2 for row in new.calibration.subsets if row.z2 is not None}
    coverage = {
        (row.subset, name): part
        for row in new.calibration.subsets
        for name, part in new.calibration.coverage(row, 0.9).items()
    }
    excess = {key: bad - (1.5 * good + 0.01) for key, (bad, good) in new.blind.items()}
    worst = max(excess, key=excess.__getitem__)
    full = max(new.errors.subsets, key=lambda row: len(row.subset))
    lines = [
        Goal("z² over all subsets", _range(z2.values()), "0.7 to 1.5", all(0.7 <= x <= 1.5 for x in z2.values())),
        Goal(
            "coverage of 90 % intervals, over subsets and modalities",
            _range(coverage.values(), 100),
            "85 to 95 %",
            all(0.85 <= x <= 0.95 for x in coverage.values()),
        ),
        Goal(
            f"worst NMSE with a camera blank or half blank ({_told(*worst)})",
            f"{new.blind[worst][0]:.3f}, without it {new.blind[worst][1]:.3f}",
            "1.5 times + 0.01",
            excess[worst] <= 0.0,
        ),
        Goal(
            "cases, subsets and modalities of these that are within the goal",
            f"{sum(x <= 0.0 for x in excess.values())} of {len(excess)}",
            "all",
            excess[worst] <= 0.0,
        ),
    ]
    if old is None:
        return lines
    before = old.errors.of(*full.subset)
    lines.append(
        Goal(
            "NMSE from everything",
            ", ".join(f"{name} {nmse:.4f}" for name, nmse in full.nmse.items()),
            "at most " + ", ".join(f"{nmse:.4f}" for nmse in before.nmse.values()),
            all(nmse <= before.nmse[name] for name, nmse in full.nmse.items()),
        )
    )
    over = {
        (row.subset, name): nmse / (1.1 * old.errors.of(*row.subset).nmse[name] + 0.01)
        for row in new.errors.subsets
        for name, nmse in row.nmse.items()
    }
    place = max(over, key=over.__getitem__)
    now, then = new.errors.of(*place[0]).nmse[place[1]], old.errors.of(*place[0]).nmse[place[1]]
    lines.append(
        Goal(
            f"NMSE from other subsets, the worst: {place[1]} from {' + '.join(place[0])}",
            f"{now:.3f}, before {then:.3f}; {sum(x <= 1 for x in over.values())} of {len(over)} within the goal",
            "1.1 times + 0.01",
            over[place] <= 1.0,
        )
    )
    kl, kl_before = (figures.calibration.of(*full.subset).kl for figures in (new, old))
    lines.append(Goal("KL from everything, nats", f"{kl:.1f}, before {kl_before:.1f}", "-20 %", kl >= 0.8 * kl_before))
    active, active_before = new.calibration.active, old.calibration.active
    lines.append(Goal("active dimensions", f"{active}, before {active_before}", "-20 %", active >= 0.8 * active_before))
    return lines


def _range(values: Iterable[float], scale: float = 1.0) -> str:
    found = [scale * x for x in values]
    return f"{min(found):.2f} to {max(found):.2f}" if scale == 1.0 else f"{min(found):.0f} to {max(found):.0f} %"


def _told(case: str, subset: Subset, name: str) -> str:
    return f"{name} from {' + '.join(subset)}, {case}"


def main() -> None:
    """Measure, print and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the logs that the checkpoint was trained on")
    parser.add_argument("--checkpoint", type=Path, help="by default the shipped one")
    parser.add_argument("--before", type=Path, help="an earlier checkpoint of the same logs")
    parser.add_argument("--samples", type=int, default=800, help="of each part")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    loaded = checkpoint.load(arguments.checkpoint or checkpoint.default_checkpoint())
    record = loaded.metadata.training
    assert record is not None, "a checkpoint without a training record"
    old = arguments.before and figures(
        checkpoint.load(arguments.before), arguments.data, record.held_out, arguments.samples
    )
    new = figures(loaded, arguments.data, record.held_out, arguments.samples)
    for row in new.calibration.subsets:
        covered = new.calibration.coverage(row, 0.9)
        before = f" (before {old.calibration.of(*row.subset).z2:.2f})" if old else ""
        print(f"{' + '.join(row.subset)}: z² {row.z2:.2f}{before}, KL {row.kl:.1f},", covered)
    report(
        "Posterior",
        "python -m benchmarks.posterior --data logs --before OLD",
        f"The checkpoint on the test half of the trajectories that its training held out, {arguments.samples} "
        "samples. A camera is blank, or one of its four halves is; the model alone is measured, in every subset with "
        "this camera and another modality: the engine takes a blank image out of the set before the model sees it. "
        "'Before' is the checkpoint of version 0.1 on the same samples.",
        rows(new, old),
        arguments.results,
    )


if __name__ == "__main__":
    main()
