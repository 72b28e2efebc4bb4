"""All figures of `smvae evaluate`, as one record."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

import smvae_core
from smvae_core.calibration import Calibration
from smvae_core.checkpoint import Checkpoint
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.evaluation.calibration import SAMPLES, calibrate
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.evaluation.probes import ProbeScores, fit_probes, score_probes
from smvae_core.evaluation.robustness import KINDS, RobustnessPoint, robustness
from smvae_core.plots.reliability import reliability
from smvae_core.plots.sheets import curves, subset_table
from smvae_core.scores import Evaluation
from smvae_core.subsets import evenly, judged_subsets

# Probes only encode, so they use this many times more samples.
_PROBE_SAMPLES = 4


class Baselines(BaseModel):
    """Figures of predictions that need no learning.

    Attributes:
        mean: mean squared error of each modality, model units, predicted by the mean of the training part.
        previous: the same, predicted by the observation of the step before, over the samples that have such a step.
        contact_majority: accuracy of always giving the more frequent answer.
        contact_previous: accuracy of predicting that contact stays as it is.
        pose_mean: mean squared error of always giving the mean pose.
        pose_previous: mean squared error of predicting that the pose stays as it is.
        position_mean: as `pose_mean`, of the position alone.
        position_previous: as `pose_previous`, of the position alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: dict[str, float]
    previous: dict[str, float]
    contact_majority: float | None
    contact_previous: float | None
    pose_mean: float | None
    pose_previous: float | None
    position_mean: float | None
    position_previous: float | None


class Judgement(BaseModel):
    """Figures of one checkpoint on one folder of logs.

    Attributes:
        checkpoint: file name.
        data: folder name.
        evaluation: errors and log-likelihoods of `judged_subsets`.
        calibration: of σ and of predicted intervals, for the same subsets; None where there are too few samples.
        baselines: to compare with.
        probes: by subset; none where there are too few trajectories to fit and to judge them on different ones.
        robustness: curves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    package_version: str = smvae_core.__version__
    checkpoint: str
    data: str
    evaluation: Evaluation
    calibration: Calibration | None = None
    baselines: Baselines
    probes: tuple[ProbeScores, ...]
    robustness: tuple[RobustnessPoint, ...]


def judge(
    loaded: Checkpoint,
    samples: Samples,
    probe_training: Samples | None,
    name: tuple[str, str],
    most: int | None,
    draws: int,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Judgement:
    """Judge a model on samples that it was not trained on; the same input gives the same figures.

    Args:
        probe_training: other trajectories, to fit the probes on; None takes 70 % of the trajectories of `samples`, and
            judges the probes on the rest.
        name: of the checkpoint, and of the logs.
        most: use at most so many samples, evenly spaced; four times as many for the probes.
        draws: for the log-likelihoods.
        on_stage: called with the name of each stage when it begins, for progress.
    """
    model, subsets = loaded.model, judged_subsets(loaded.model.names)
    to_fit, to_probe = (probe_training, samples) if probe_training is not None else _parts(samples)
    probes, more = {}, None if most is None else _PROBE_SAMPLES * most
    if to_fit is not None:
        on_stage("fitting probes")
        probes = fit_probes(model, to_fit, subsets, more)
    on_stage(f"errors and likelihoods from {len(subsets)} subsets")
    evaluation = evaluate(model, samples, loaded.mean, subsets, most, draws=draws)
    on_stage("calibration")
    calibration = calibrate(model, samples, min(most or SAMPLES, SAMPLES), subsets) if len(samples) > 1 else None
    on_stage("baselines and probes")
    baselines = baselines_of(samples, to_probe, loaded, most)
    scores = score_probes(model, probes, to_probe, more) if probes else ()
    on_stage("robustness")
    return Judgement(
        checkpoint=name[0],
        data=name[1],
        evaluation=evaluation,
        calibration=calibration,
        baselines=baselines,
        probes=scores,
        robustness=robustness(model, to_probe, loaded.mean, probes.get(model.names), most),
    )


def picture(judgement: Judgement, folder: Path) -> None:
    """Write `subsets.png`, `robustness.png` and `reliability.png`."""
    names = list(judgement.baselines.mean)
    rows = {" + ".join(row.subset): row.nmse for row in judgement.evaluation.subsets}
    subset_table(folder / "subsets.png", rows, names)
    if judgement.calibration is not None:
        reliability(folder / "reliability.png", judgement.calibration)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for title, figure in (
        ("NMSE", lambda point: float(np.mean(list(point.nmse.values())))),
        ("contact accuracy", lambda point: point.contact_accuracy),
        ("next-pose MSE", lambda point: point.pose_mse),
    ):
        for kind in KINDS:
            points = [p for p in judgement.robustness if p.kind == kind and figure(p) is not None]
            lines = {
                name: (
                    [p.level for p in points if p.modality == name],
                    [figure(p) for p in points if p.modality == name],
                )
                for name in dict.fromkeys(p.modality for p in points)
            }
            if lines:
                panels[f"{title}, {kind}"] = lines
    curves(folder / "robustness.png", panels, "level")


def _parts(samples: Samples) -> tuple[Samples | None, Samples]:
    if len(samples.held) < 2:
        return None, samples
    try:
        return split_by_trajectory(samples, 0.3, seed=0)
    except LogError:
        return None, samples


def baselines_of(samples: Samples, probed: Samples, loaded: Checkpoint, most: int | None) -> Baselines:
    """Compute the figures of predictions that need no learning.

    Args:
        samples: for the errors of the modalities; `most` bounds their number.
        probed: for the labels; the samples that the probes are judged on.
    """
    index = evenly(len(samples), most)
    mean, previous = {}, {}
    for m, modality in enumerate(samples.modalities):
        name, total, count, moved, moves = modality.name, 0.0, 0, 0.0, 0
        for chunk in np.array_split(index[samples.available[index, m]], -(-len(index) // 256)):
            x = samples.batch(chunk)[0][name]
            total += float((x - loaded.mean[name]).flatten(1).square().mean(dim=1).double().sum())
            count += len(chunk)
            # Samples are in order of time. The one before counts only where it is of the step before.
            has = (chunk > 0) & (samples.previous[chunk] == samples.rows[chunk - 1])
            has &= samples.available[chunk - 1, m]
            before = samples.batch(chunk[has] - 1)[0][name]
            moved += float((x[has] - before).flatten(1).square().mean(dim=1).double().sum())
            moves += int(has.sum())
        if count:
            mean[name] = total / count
        if moves:
            previous[name] = moved / moves
    follows = np.flatnonzero(probed.previous[1:] == probed.rows[:-1]) + 1
    contact, pose = probed.contact[~np.isnan(probed.contact)], probed.pose[~np.isnan(probed.pose).any(axis=1)]
    stays = (probed.contact[follows], probed.contact[follows - 1])
    still = np.square(probed.pose[follows] - probed.pose[follows - 1])
    stays_known, still_known = ~np.isnan(stays[0] + stays[1]), ~np.isnan(still).any(axis=1)
    spread = np.square(pose - pose.mean(axis=0)) if len(pose) else pose
    return Baselines(
        mean=mean,
        previous=previous,
        contact_majority=float(max(contact.mean(), 1 - contact.mean())) if len(contact) else None,
        contact_previous=float((stays[0] == stays[1])[stays_known].mean()) if stays_known.any() else None,
        pose_mean=float(spread.mean()) if len(pose) else None,
        pose_previous=float(still[still_known].mean()) if still_known.any() else None,
        position_mean=float(spread[:, :3].mean()) if len(pose) else None,
        position_previous=float(still[still_known, :3].mean()) if still_known.any() else None,
    )
