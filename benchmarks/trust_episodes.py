"""Episodes of faults in healthy logs, for `benchmarks.trust`: many side by side, from logs that are embedded once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor

from benchmarks.sensor_faults import Fault, sent
from smvae_core.checkpoint import Checkpoint
from smvae_core.data.samples import Samples
from smvae_core.evaluation.trust import PERIOD, embedded_steps, evidence_of, judged
from smvae_core.model.memory import MemoryState
from smvae_core.model.traits import traits_of_one
from smvae_core.model.trust import Moment

Array = NDArray[np.float32]
Numbers = NDArray[np.float64]
BEFORE = 15
"""Healthy steps before a fault, at least."""
SOON = 10
"""Steps of the first half second."""
LONGEST = 100
"""Steps of the longest fault, 5 s."""
_DETECTABLE = 0.1
_TOGETHER = 16


class Healthy(NamedTuple):
    """One healthy log.

    Attributes:
        samples: its steps.
        steps: embedded, without memory.
        hidden: the state of memory before each step, (T, H); None for a model without memory.
        odds: that each modality is faulty, (T, M).
        evidence: W of each modality after each step, (T, M).
    """

    samples: Samples
    steps: Moment
    hidden: Tensor | None
    odds: Numbers
    evidence: Numbers


class Episode(NamedTuple):
    """A fault in a healthy log.

    Attributes:
        log: index of the log.
        start: its first faulty step.
        detectable: steps from `start` to the first sample that tells.
        embeddings, traits, valid: what is made of what the sensor sends, (T, d), (T, F) and (T,).
        arrays: what it sends, (T, *shape).
    """

    log: int
    start: int
    detectable: int
    embeddings: Tensor
    traits: Tensor
    valid: Tensor
    arrays: Array


@dataclass
class Found:
    """What was measured of one fault: one entry for each episode, and of `after` and `blamed` for each alarm."""

    soon: list[float] = field(default_factory=list)
    healthy: list[float] = field(default_factory=list)
    noticed: list[bool] = field(default_factory=list)
    blamed: list[bool] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    @property
    def auroc(self) -> float:
        """Probability that the evidence after half a second of fault exceeds that of the same healthy half second."""
        statistic = mannwhitneyu(self.soon, self.healthy).statistic
        return float(statistic / (len(self.soon) * len(self.healthy)))


class Bench:
    """A checkpoint with trust, and healthy test logs."""

    def __init__(self, loaded: Checkpoint, samples: Samples, on_log: Callable[[float], None] = lambda part: None):
        assert loaded.trust is not None and loaded.metadata.trust is not None
        self.model, self.network = loaded.model, loaded.trust
        self.threshold = np.array(loaded.metadata.trust.threshold)
        self.logs: list[Healthy] = []
        numbers = [n for n in np.unique(samples.trajectory) if (samples.trajectory == n).sum() > BEFORE + SOON + 2]
        for group in [numbers[at : at + _TOGETHER] for at in range(0, len(numbers), _TOGETHER)]:
            own = [samples.select(np.flatnonzero(samples.trajectory == number)) for number in group]
            self.logs += self._healthy(own)
            on_log(len(self.logs) / len(numbers))
        some = np.random.default_rng(0).choice(len(samples), min(2000, len(samples)), replace=False)
        batch, _ = samples.batch(np.sort(some))
        self.spread = {name: float(x.std(dim=0).mean()) or 1.0 for name, x in batch.items()}

    def _healthy(self, logs: list[Samples]) -> list[Healthy]:
        steps = [embedded_steps(self.model, own) for own in logs]
        longest = max(len(own) for own in logs)
        streams = Moment(*(torch.stack([_padded(x, longest) for x in parts]) for parts in zip(*steps)))
        columns, odds = judged(self.model, self.network, streams)
        evidence = evidence_of(odds.swapaxes(0, 1)).swapaxes(0, 1)
        return [
            Healthy(own, step, None if columns.hidden is None else columns.hidden[n, : len(own)].clone(),
                    odds[n, : len(own)], evidence[n, : len(own)])
            for n, (own, step) in enumerate(zip(logs, steps))
        ]  # fmt: skip

    @property
    def hours(self) -> float:
        """Hours of healthy logs."""
        return sum(len(log.odds) for log in self.logs) * PERIOD / 3600.0

    def false_alarms(self) -> int:
        """Return the number of healthy logs in which a modality would be distrusted."""
        return sum(bool((log.evidence >= self.threshold).any()) for log in self.logs)

    def draw(self, fault: Fault, random: np.random.Generator) -> Episode | None:
        """Draw an episode; None if nothing that the sensor sends tells, or if that begins too late."""
        number = int(random.integers(len(self.logs)))
        log = self.logs[number]
        most = min(LONGEST, len(log.odds) - BEFORE - 2)
        steps = int(random.integers(SOON, most + 1))
        start = int(random.integers(BEFORE, len(log.odds) - steps - 1))
        modality, column = self.model.modalities[fault.modality], self.model.names.index(fault.modality)
        rows = np.arange(start, start + steps)
        if not log.samples.available[start - 1 : start + steps, column].all():
            return None
        true = self.raw(log, fault.modality, np.arange(start - 1, start + steps))
        earlier = self.raw(log, fault.modality, np.maximum(rows - SOON, 0))
        foreign = self.logs[(number + 1 + int(random.integers(max(1, len(self.logs) - 1)))) % len(self.logs)]
        begin = int(random.integers(max(1, len(foreign.odds) - steps)))
        other = self.raw(foreign, fault.modality, np.minimum(np.arange(begin, begin + steps), len(foreign.odds) - 1))
        x = sent(fault, modality, true, earlier, other, random)
        detectable = 0
        if fault.hides:
            differs = np.sqrt(np.square(x - true[1:]).reshape(steps, -1).mean(axis=1))
            seen = np.flatnonzero(differs > _DETECTABLE * self.spread[fault.modality])
            if not len(seen) or steps - seen[0] < SOON:
                return None
            detectable = int(seen[0])
        tensor = torch.from_numpy(x)
        with torch.inference_mode():
            embeddings, traits = self.model.embeddings[fault.modality](tensor), traits_of_one(modality, tensor)
        traits = _padded(traits.T, log.steps.traits.shape[-1]).T
        return Episode(number, start, detectable, embeddings, traits, torch.from_numpy(modality.is_valid(x)), x)

    def episodes(self, fault: Fault, count: int, random: np.random.Generator) -> list[Episode]:
        """Draw episodes of a fault; fewer where hardly any tells."""
        drawn: list[Episode] = []
        for _ in range(20 * count):
            if (episode := self.draw(fault, random)) is not None:
                drawn.append(episode)
            if len(drawn) == count:
                break
        return drawn

    def raw(self, log: Healthy, name: str, rows: NDArray[np.int64]) -> Array:
        """Return samples of a log in model units, (N, *shape)."""
        array: Array = log.samples.batch(rows)[0][name].numpy()
        return array

    def streams(self, episodes: list[Episode], column: int) -> tuple[Moment, MemoryState | None]:
        """Return the sets of episodes side by side, from `SOON` steps before each, and the memory before those.

        Shorter episodes are filled up with sets of nothing.
        """
        rows = SOON + max(len(episode.arrays) for episode in episodes)
        parts, hidden = [], []
        for episode in episodes:
            log, first, steps = self.logs[episode.log], episode.start - SOON, len(episode.arrays)
            embeddings, mask, traits = (x[first : episode.start + steps].clone() for x in log.steps)
            embeddings[SOON:, column], traits[SOON:, column] = episode.embeddings, episode.traits
            mask[SOON:, column] &= episode.valid
            parts.append(Moment(_padded(embeddings, rows), _padded(mask, rows), _padded(traits, rows)))
            if log.hidden is not None:
                hidden.append(log.hidden[first])
        streams = Moment(*(torch.stack(x) for x in zip(*parts)))
        if not hidden:
            return streams, None
        return streams, MemoryState(torch.stack(hidden), torch.ones(len(hidden), dtype=torch.bool))

    def measure(self, fault: Fault, episodes: list[Episode]) -> Found:
        """Return how soon and how well a fault is noticed, before anything is dropped."""
        found, column = Found(), self.model.names.index(fault.modality)
        if not episodes:
            return found
        streams, memory = self.streams(episodes, column)
        odds = judged(self.model, self.network, streams, start=memory)[1][:, SOON:]
        before = np.stack([self.logs[episode.log].evidence[episode.start - 1] for episode in episodes])
        share = evidence_of(odds.swapaxes(0, 1), before).swapaxes(0, 1) / self.threshold
        for row, episode in enumerate(episodes):
            begin, steps = episode.detectable, len(episode.arrays)
            healthy = self.logs[episode.log].odds[episode.start + begin :][:SOON, column]
            found.soon.append(_sum(odds[row, begin : begin + SOON, column]))
            found.healthy.append(_sum(healthy))
            alarms = np.flatnonzero((share[row, :steps] >= 1.0).any(axis=1))
            found.noticed.append(bool(len(alarms)))
            if len(alarms):
                found.blamed.append(int(share[row, alarms[0]].argmax()) == column)
                found.after.append((alarms[0] - begin + 1) * PERIOD)
        return found


def _padded(x: Tensor, rows: int) -> Tensor:
    """Return x with rows of zeros at its end."""
    return torch.cat([x, torch.zeros(rows - len(x), *x.shape[1:], dtype=x.dtype)])


def _sum(odds: Numbers) -> float:
    """Return the sum of the log odds where the modality was there."""
    return float(odds[np.isfinite(odds)].sum())
