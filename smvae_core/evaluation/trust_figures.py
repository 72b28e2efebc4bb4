"""How well trust does on the test half of the held-out logs: false alarms, and faults that are noticed and blamed."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.evaluation.trust import PERIOD, Numbers, embedded_steps, evidence_of, judged
from smvae_core.inference.trust import PAST
from smvae_core.modality import Modality
from smvae_core.model.memory import MemoryState
from smvae_core.model.traits import traits_of_one
from smvae_core.model.trust import Moment, TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.trust import TrustFigures, TrustRecord

Array = NDArray[np.float32]
Alteration = Callable[[Modality, Array, np.random.Generator], Array]
"""From a modality and its healthy samples of consecutive steps to those of a sensor that fails."""

EPISODES = 50
"""Episodes of each modality."""
SECONDS = 0.8
"""Length of a fault."""


@torch.inference_mode()
def judge_trust(
    model: MultimodalVAE,
    network: TrustNetwork,
    record: TrustRecord,
    samples: Samples,
    alter: Alteration,
    episodes: int = EPISODES,
) -> TrustFigures | None:
    """Judge trust on the half of held-out samples that calibrated nothing; None if there is a single trajectory.

    Args:
        model: on the processor, in evaluation mode.
        samples: as of `calibrate_trust`.
        alter: draws a fault.
        episodes: of each modality.
    """
    if len(samples.held) < 2:
        return None
    _, samples = split_by_trajectory(samples, 0.5, seed=0)
    logs = [samples.select(np.flatnonzero(samples.trajectory == n)) for n in np.unique(samples.trajectory)]
    logs = [log for log in logs if len(log) > 3]
    healthy = [_Healthy(model, network, log) for log in logs]
    threshold = np.array(record.threshold)
    alarms = sum(bool((one.evidence >= threshold).any()) for one in healthy)
    random = np.random.default_rng(0)
    noticed, blamed = {}, {}
    for column, modality in enumerate(model.modalities.values()):
        share = _shares(model, network, healthy, (column, modality), alter, episodes, random) / threshold
        reached = share.max(axis=2) >= 1.0
        seen = reached.any(axis=1)
        worst = share[np.arange(len(share)), reached.argmax(axis=1)].argmax(axis=1)
        noticed[modality.name] = float(seen.mean())
        blamed[modality.name] = float((worst == column)[seen].mean()) if seen.any() else None
    return TrustFigures(
        tested_on=tuple(name for log in logs for name in log.held),
        minutes=sum(len(log) for log in logs) * PERIOD / 60.0,
        alarms=alarms,
        episodes=episodes,
        noticed=noticed,
        blamed=blamed,
    )


class _Healthy:
    """A log, embedded, with the state of memory before each step, and the evidence after it."""

    def __init__(self, model: MultimodalVAE, network: TrustNetwork, samples: Samples) -> None:
        self.samples = samples
        self.steps = embedded_steps(model, samples)
        streams = Moment(*(x[None] for x in self.steps))
        columns, odds = judged(model, network, streams)
        self.hidden: Tensor | None = None if columns.hidden is None else columns.hidden[0]
        self.evidence: Numbers = evidence_of(odds[0])


def _shares(
    model: MultimodalVAE,
    network: TrustNetwork,
    logs: list[_Healthy],
    of: tuple[int, Modality],
    alter: Alteration,
    episodes: int,
    random: np.random.Generator,
) -> Numbers:
    """Return the evidence during faults of one modality, (E, T, M)."""
    column, modality = of
    shortest = min(len(log.samples) for log in logs)
    before = min(round(PAST / PERIOD), shortest // 2)
    steps = min(round(SECONDS / PERIOD), shortest - before)
    parts, hidden, evidence = [], [], []
    for _ in range(episodes):
        log = logs[int(random.integers(len(logs)))]
        start = int(random.integers(before, len(log.samples) - steps + 1))
        embeddings, mask, traits = (x[start - before : start + steps].clone() for x in log.steps)
        healthy = log.samples.batch(np.arange(start, start + steps))[0][modality.name].numpy()
        sent = alter(modality, healthy, random)
        x = torch.from_numpy(np.ascontiguousarray(sent))
        found = traits_of_one(modality, x)
        embeddings[before:, column] = model.embeddings[modality.name](x)
        traits[before:, column, : found.shape[1]] = found
        mask[before:, column] &= torch.from_numpy(modality.is_valid(sent))
        parts.append(Moment(embeddings, mask, traits))
        evidence.append(log.evidence[start - 1])
        if log.hidden is not None:
            hidden.append(log.hidden[start - before])
    streams = Moment(*(torch.stack(x) for x in zip(*parts)))
    memory = MemoryState(torch.stack(hidden), torch.ones(episodes, dtype=torch.bool)) if hidden else None
    odds = judged(model, network, streams, start=memory)[1][:, before:]
    return evidence_of(odds.swapaxes(0, 1), np.stack(evidence)).swapaxes(0, 1)
