"""The tables of an experiment over subsets of modalities (§4.3 and §4.4 of the SMVAE paper)."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from smvae_core.reproduce.results import SystemResult
from smvae_core.reproduce.tables import by_row, spread, spread_told, table
from smvae_core.scores import normalised
from smvae_core.subsets import Subset


def sections(results: Sequence[SystemResult]) -> list[str]:
    """Return the tables over all modalities, as paragraphs of markdown."""
    parts = [
        "NMSE (mean squared error divided by that of the training mean), averaged over the modalities; below 1 "
        f"something was learned. {spread_told(results)}".strip(),
        _by_subset("all modalities, predicted from", results, ".3f", _nmse),
    ]
    parts += _summary(results)
    if any(result.probes for result in results):
        parts += [
            "Linear probes of the latent, fitted on training trajectories and judged on held-out ones: contact of the "
            "next step, and its pose.",
            _by_subset(
                "contact accuracy, from",
                results,
                ".3f",
                lambda r: {row.subset: row.contact_accuracy for row in r.probes},
            ),
            _by_subset("next-pose MSE × 1e-4, from", results, ".2f", _pose_errors),
        ]
    return parts


def _summary(results: Sequence[SystemResult]) -> list[str]:
    """Return errors and calibration of each row in one line, and two predictions that need no learning."""
    lines = []
    for name, of in by_row(results):
        everything = [_whole(result) for result in of]
        found = [result.calibration for result in of if result.calibration is not None]
        lines.append(
            [
                name,
                spread(everything, ".3f"),
                spread([_over_subsets(result) for result in of], ".3f"),
                _range([row.z2 for c in found for row in c.subsets if row.z2 is not None], ".2f"),
                _range([100 * x for c in found for row in c.subsets for x in c.coverage(row, 0.9).values()], ".0f"),
                _range([row.kl for c in found for row in c.subsets if row.samples], ".1f"),
                _range([float(c.active) for c in found], ".0f"),
            ]
        )
    baselines = results[0].baselines
    if baselines is not None:
        before = [normalised(error, baselines.mean[name]) for name, error in baselines.previous.items()]
        known = [value for value in before if value is not None]
        lines.append(["*the mean*", "1.000", "1.000", *["–"] * 4])
        lines.append(["*as a step before*", *[f"{statistics.fmean(known):.3f}" if known else "–"] * 2, *["–"] * 4])
    head = ["row", "NMSE from everything", "over all subsets", "z²", "inside 90 %", "KL, nats", "active dimensions"]
    return [
        "In one line each; z² (1 where σ is right), the percentage of entries inside the predicted 90 % intervals, and "
        "the KL to the prior from the least to the most over subsets and modalities. The mean and the step before need "
        "no learning.",
        table(head, lines),
    ]


def _whole(result: SystemResult) -> float | None:
    """Return the mean NMSE over the modalities from the largest subset that some sample has."""
    rows = [row for row in result.evaluation.subsets if row.nmse]
    return statistics.fmean(max(rows, key=lambda row: len(row.subset)).nmse.values()) if rows else None


def _over_subsets(result: SystemResult) -> float | None:
    values = [statistics.fmean(row.nmse.values()) for row in result.evaluation.subsets if row.nmse]
    return statistics.fmean(values) if values else None


def _range(values: Sequence[float], shown: str) -> str:
    if not values:
        return "–"
    least, most = format(min(values), shown), format(max(values), shown)
    return least if least == most else f"{least} – {most}"


def each_modality(results: Sequence[SystemResult]) -> list[str]:
    """Return a table for each modality, as paragraphs of markdown."""
    names = [modality.name for modality in results[0].settings.configuration.model.modalities]
    tables = (_by_subset(f"{name}, predicted from", results, ".3f", partial(_nmse, name=name)) for name in names)
    return ["NMSE of each modality:", *tables]


def _nmse(result: SystemResult, name: str | None = None) -> dict[Subset, float | None]:
    """Return by subset the NMSE of one modality, or the mean over all; None where no held-out sample has the subset."""
    rows = result.evaluation.subsets
    if name is not None:
        return {row.subset: row.nmse.get(name) for row in rows}
    return {row.subset: statistics.fmean(row.nmse.values()) if row.nmse else None for row in rows}


def _pose_errors(result: SystemResult) -> dict[Subset, float | None]:
    return {row.subset: None if row.pose_mse is None else 1e4 * row.pose_mse for row in result.probes}


def _by_subset(
    title: str,
    results: Sequence[SystemResult],
    shown: str,
    figures: Callable[[SystemResult], dict[Subset, float | None]],
) -> str:
    """Return a table with a line for each subset and a column for each row."""
    grouped = [(name, [figures(result) for result in of]) for name, of in by_row(results)]
    subsets = dict.fromkeys(subset for _, of in grouped for found in of for subset in found)
    lines = [
        [" + ".join(subset), *(spread([found.get(subset) for found in of], shown) for _, of in grouped)]
        for subset in subsets
    ]
    return table([title, *(name for name, _ in grouped)], lines)
