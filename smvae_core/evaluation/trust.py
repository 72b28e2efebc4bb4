"""Calibration of trust on healthy held-out logs: p-values by quantiles, and thresholds by the tail of the evidence.

In healthy logs the evidence against a modality rises from 0 now and then, and falls back. The heights of such
excursions have an exponential tail, as theory says of Page's test. The tail is fitted, and the threshold, the same for
all modalities, is the height that is reached once in `HOURS` of healthy operation, by the fit. It is never below
`LEAST`, nor below 1.2 times what was seen. Few logs give a rough fit: the record says how many there were.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import expon
from torch import Tensor, nn

from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.inference.trust import LARGEST, PAST, log_odds
from smvae_core.model.memory import MemoryState
from smvae_core.model.traits import traits_of
from smvae_core.model.trust import Moment, Told, TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.subsets import all_subsets, subset_mask
from smvae_core.trust import TrustRecord

Numbers = NDArray[np.float64]

HOURS = 10.0
"""Hours of healthy operation to one false alarm of any modality, which the threshold aims at."""
LEAST = 21.0
"""The lowest threshold, nats: seven sets of the strongest evidence. With four, 91 healthy minutes had two alarms, which
the few minutes of the calibration did not foresee."""
PERIOD = 0.05
"""Seconds between the steps of a log."""
_QUANTILES = 201
_CHUNK = 256


def calibrate_trust(
    model: MultimodalVAE, network: TrustNetwork, samples: Samples, period: float = PERIOD
) -> TrustRecord:
    """Calibrate trust on one half of healthy samples that the model was not trained on; the other half is for tests.

    Args:
        model: on the processor, in evaluation mode.
        samples: split by trajectory, as `evaluation.calibration` does. A single trajectory is used whole.
    """
    if len(samples.held) > 1:
        samples, _ = split_by_trajectory(samples, 0.5, seed=0)
    runs = healthy_runs(model, samples)
    names = model.names
    masks = subset_mask(names, all_subsets(names))
    surprise: list[list[list[Numbers]]] = [[[] for _ in names] for _ in names]
    peaks: list[Numbers] = []
    for run in runs:
        embeddings, traits = (x.expand(len(masks), -1, -1, -1) for x in (run.embeddings, run.traits))
        _, odds = judged(model, network, Moment(embeddings, run.mask & masks[:, None], traits), period)
        for of_set, mask in zip(odds, masks):
            size = int(mask.sum())
            for m in np.flatnonzero(mask.numpy()):
                own = of_set[:, m][np.isfinite(of_set[:, m])]
                surprise[m][size - 1].append(own)
                # A set of one modality cannot be judged by others; its evidence needs no threshold of its own.
                if size > 1:
                    peaks.append(excursions(own))
    seconds = period * sum(len(run.mask) for run in runs) * sum(int(mask.sum()) > 1 for mask in masks) / 2
    # One for all modalities: some minutes have too few high excursions to tell the modalities apart.
    level = threshold(np.concatenate([np.zeros(0), *peaks]), seconds)
    return TrustRecord(
        hidden=network.hidden,
        traits=network.traits,
        each_still=network.each_still,
        calibrated_on=samples.held,
        samples=len(samples),
        period=period,
        threshold=(level,) * len(names),
        surprise=tuple(tuple(_quantiles(values) for values in sizes) for sizes in surprise),
    )


class Columns(NamedTuple):
    """Consecutive sets as the posterior network takes them: the modalities, and memory if the model has it.

    Attributes:
        embeddings: (S, T, C, d).
        mask: (S, T, C), bool.
        hidden: the state of memory before each set, (S, T, H); None for a model without memory.
    """

    embeddings: Tensor
    mask: Tensor
    hidden: Tensor | None


@torch.inference_mode()
def columns_of(
    model: MultimodalVAE, embeddings: Tensor, mask: Tensor, period: float = PERIOD, start: MemoryState | None = None
) -> Columns:
    """Return S streams of T consecutive sets with the memory of each stream.

    Args:
        embeddings: of the modalities, (S, T, M, d).
        mask: (S, T, M), bool.
        start: the memory before each stream; None: nothing is remembered.
    """
    if model.memory is None:
        return Columns(embeddings, mask, None)
    state = start or model.memory.start(len(mask))
    elapsed = torch.full((len(mask),), period)
    slots, known, hidden = [], [], []
    for x, there in zip(embeddings.unbind(dim=1), mask.unbind(dim=1)):
        remembered = model.memory.recall(state, elapsed)
        slots.append(remembered.embedding)
        known.append(remembered.present)
        hidden.append(state.hidden)
        state = model.memory.advance(state, elapsed, model.fuse(x, there, remembered), there)
    return Columns(
        torch.cat([embeddings, torch.stack(slots, dim=1)[:, :, None]], dim=2),
        torch.cat([mask, torch.stack(known, dim=1)[..., None]], dim=2),
        torch.stack(hidden, dim=1),
    )


def judged(
    model: MultimodalVAE,
    network: TrustNetwork,
    streams: Moment,
    period: float = PERIOD,
    start: MemoryState | None = None,
) -> tuple[Columns, Numbers]:
    """Return streams with their memory, and the log odds of `odds_of`, (S, T, M).

    Args:
        streams: S streams of T consecutive sets without memory: (S, T, M, d), (S, T, M) and (S, T, M, F).
        start: as of `columns_of`.
    """
    columns = columns_of(model, streams.embeddings, streams.mask, period, start)
    return columns, odds_of(model.fusion, network, Moment(columns.embeddings, columns.mask, streams.traits), period)


@torch.inference_mode()
def healthy_runs(model: MultimodalVAE, samples: Samples) -> list[Moment]:
    """Return the steps of each trajectory, without memory."""
    own = (samples.select(np.flatnonzero(samples.trajectory == number)) for number in np.unique(samples.trajectory))
    return [embedded_steps(model, steps) for steps in own]


@torch.inference_mode()
def embedded_steps(model: MultimodalVAE, samples: Samples) -> Moment:
    """Return all samples as the networks take them, without memory, in parts that fit in the processor's cache."""
    embeddings, traits = [], []
    for rows in np.array_split(np.arange(len(samples)), -(-len(samples) // _CHUNK)):
        batch, available = samples.batch(rows)
        embeddings.append(model.embed(batch, available))
        traits.append(traits_of(model.configuration.modalities, batch, len(rows)))
    return Moment(torch.cat(embeddings), torch.from_numpy(samples.available), torch.cat(traits))


@torch.inference_mode()
def odds_of(fusion: nn.Module, network: TrustNetwork, streams: Moment, period: float = PERIOD) -> Numbers:
    """Return the log odds that each modality is faulty, (S, T, M), as long as none is distrusted.

    Args:
        streams: S streams of T consecutive sets: (S, T, C, d), (S, T, C) and (S, T, M, F).
    """
    back = max(1, round(PAST / period))
    earlier = (_earlier(streams, 1), _earlier(streams, back))
    chunks = [slice(first, first + _CHUNK) for first in range(0, streams.mask.shape[1], _CHUNK)]
    logits = []
    for stream in range(len(streams.mask)):
        moments = [Moment(*(x[stream] for x in moment)) for moment in (streams, *earlier)]
        parts = [network.told(fusion, Moment(*(x[rows] for x in moments[0]))) for rows in chunks]
        # What was told half a second before was told already.
        told = Told(*(torch.cat(x, dim=1) for x in zip(*parts)))
        known = Told(*(_later(x, back) for x in told))
        for rows in chunks:
            contexts = network.contexts(*(Told(*(x[:, rows] for x in one)) for one in (told, known)))
            now, before, past = (Moment(*(x[rows] for x in moment)) for moment in moments)
            logits.append(network.judge(now, before, past, contexts).double().numpy())
    return log_odds(np.concatenate(logits)).reshape(*streams.mask.shape[:2], -1)


def evidence_of(odds: Numbers, start: Numbers | None = None) -> Numbers:
    """Return Page's test of consecutive log odds: W of each modality after each set, without a threshold.

    Args:
        odds: (T, ...).
        start: W before the first set, (...); None for 0.
    """
    added = np.where(np.isfinite(odds), np.clip(odds, -LARGEST, LARGEST), 0.0)
    evidence, now = np.zeros(odds.shape), np.zeros(odds.shape[1:]) if start is None else start
    for step, change in enumerate(added):
        now = np.maximum(now + change, 0.0)
        evidence[step] = now
    return evidence


def excursions(odds: Numbers) -> Numbers:
    """Return the height of each excursion of the evidence from 0, of consecutive log odds (T,)."""
    evidence = evidence_of(odds[:, None])[:, 0]
    number = np.cumsum(evidence == 0.0)
    up = evidence > 0.0
    heights = np.zeros(number[-1] + 1 if len(number) else 1)
    np.maximum.at(heights, number[up], evidence[up])
    return heights[heights > 0.0]


def threshold(peaks: Numbers, seconds: float) -> float:
    """Return the height that excursions of these peaks, seen in so many seconds, reach once in `HOURS`."""
    if not len(peaks):
        return LEAST
    base = float(np.median(peaks))
    above = peaks[peaks >= base]
    _, scale = expon.fit(above, floc=base)
    expected = len(above) * 3600.0 * HOURS / max(seconds, 1.0)
    level = base + float(expon.isf(min(1.0, 1.0 / expected), scale=max(scale, 1e-6)))
    return max(LEAST, 1.2 * float(peaks.max()), level)


def _later(x: Tensor, steps: int) -> Tensor:
    """Return (P, T, …) moved to later steps, with zeros in front."""
    steps = min(steps, x.shape[1])
    return torch.cat([torch.zeros_like(x[:, :steps]), x[:, : x.shape[1] - steps]], dim=1)


def _quantiles(values: list[Numbers]) -> tuple[float, ...]:
    """Return quantiles at equal steps of probability; zeros where nothing was measured."""
    every = np.concatenate([np.zeros(0), *values])
    probability = np.linspace(0.0, 1.0, _QUANTILES)
    return tuple(np.quantile(every, probability).tolist()) if len(every) else (0.0,) * _QUANTILES


def _earlier(now: Moment, steps: int) -> Moment:
    """Return the sets of streams so many steps earlier, sets of nothing before the first."""
    return Moment(*(_later(x, steps) for x in now))
