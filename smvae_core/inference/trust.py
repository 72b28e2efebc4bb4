"""Trust: which modality of a stream of sets lies, since when, and how sure that is. Explicit state in, state out.

>>> trust = Trust(loaded.model.fusion, loaded.trust, loaded.metadata.trust, loaded.model.names)
>>> state, verdict = trust.step(trust.start(), Moment(embeddings, mask, traits), elapsed=0.05)
>>> verdict.trust["rgb"], verdict.distrusted

`model.trust` gives the log odds u that a modality is faulty, from one set and what came before it. A sequential test
(Page's CUSUM) accumulates them: W ← max(0, W + u), with u bounded, so that neither one bad set is believed nor a slow
fault goes unnoticed. A modality whose W reaches its threshold h is distrusted, and trusted again once W is a tenth of
it. Trust is 1 − W / 2h: 1 is full trust, 0.5 and less is distrust. The others are then judged without it,
and what was held against them before is forgotten: the fault of the one explains it.

u contains the odds of a fault in the training, a sensor's that nobody has accused yet. Against a distrusted modality
the evidence is u without them: a set that tells nothing, as of a turned force sensor while nothing touches, is no
agreement, and lets W sink but slowly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smvae_core.model.trust import Moment, TrustNetwork, prior_log_odds
from smvae_core.trust import TrustRecord

Numbers = NDArray[np.float64]

PAST = 0.5
"""Seconds from a set to the one that its changes are measured against, as nearly as the stream of sets allows."""
LARGEST = 3.0
"""Bound of the log odds that one set adds to the evidence, nats."""
_RECOVERED = 0.1
_FORGIVEN = 0.5
"""By so many nats a set that tells nothing of a distrusted modality lets its evidence sink: from 2h in four seconds."""


@dataclass(frozen=True)
class Seen:
    """One set: its time, and what it held.

    Attributes:
        seconds: from the start.
        embeddings: (C, d), float32.
        mask: (C,), bool.
        traits: (M, F), float32.
        told: by the columns that count, what a judge computed from them, for the sets that follow. It is determined
            by the rest.
    """

    seconds: float
    embeddings: NDArray[np.float32]
    mask: NDArray[np.bool_]
    traits: NDArray[np.float32]
    told: dict[bytes, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)


class Judge(Protocol):
    """A way to run the network of trust."""

    def __call__(self, now: Seen, before: Seen | None, past: Seen | None, allowed: NDArray[np.bool_]) -> Numbers:
        """Return the logits of the hypotheses, (R, 1 + M), float64; -inf where absent.

        Args:
            now: what is judged.
            before: the set before; None where there was none.
            past: the set about half a second earlier; None where there was none.
            allowed: (R, C), the columns that count in each row.
        """
        ...


@dataclass(frozen=True)
class TrustState:
    """All that is kept from set to set.

    Attributes:
        seconds: time of the newest set, from the start.
        evidence: W of each modality, (M,).
        begun: time at which the evidence against each modality began, (M,).
        distrusted: (M,), bool.
        recent: the sets of the last half second, oldest first.
    """

    seconds: float
    evidence: Numbers
    begun: Numbers
    distrusted: NDArray[np.bool_]
    recent: tuple[Seen, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Verdict:
    """The judgement on the modalities of a set, by this set and the sets before it.

    Attributes:
        trust: by modality of the set, 0 to 1; at 0.5 it begins to be distrusted, and it is trusted again near 1.
        surprise: by modality of the set, the p-value of how faulty it looks in this set alone: as small in so many
            healthy sets.
        distrusted: names of the modalities that are distrusted, also where the set lacks them.
        faulty_for: by distrusted modality, seconds from the estimated beginning of the fault to this set.
        evidence: by distrusted modality, nats.
    """

    trust: dict[str, float]
    surprise: dict[str, float]
    distrusted: tuple[str, ...]
    faulty_for: dict[str, float]
    evidence: dict[str, float]


class Trust:
    """The judgement of a stream of sets. It keeps nothing between calls.

    Args:
        fusion: the posterior network of the model, on the processor.
        network: trained by `training.trust`.
        record: its calibration.
        names: the modalities, in the order of the columns.

    Attributes:
        judge: runs the network; another way of running it may take its place.
    """

    def __init__(self, fusion: nn.Module, network: TrustNetwork, record: TrustRecord, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.judge: Judge = TorchJudge(fusion, network)
        self._threshold = np.array(record.threshold)
        self._prior = prior_log_odds(len(self._names))
        self._quantiles = np.array(record.surprise)

    def start(self) -> TrustState:
        """Return the state before any set: full trust."""
        count = len(self._names)
        return TrustState(0.0, np.zeros(count), np.zeros(count), np.zeros(count, bool))

    def step(self, state: TrustState, now: Moment, elapsed: float) -> tuple[TrustState, Verdict]:
        """Judge a set, and return the state after it.

        Args:
            now: one row, on the processor: what the set has, distrusted modalities included, and memory where the
                model has it.
            elapsed: seconds since the set before.
        """
        embeddings, mask, traits = (x[0].numpy() for x in now)
        return self.see(state, Seen(state.seconds + elapsed, embeddings, mask, traits))

    def see(self, state: TrustState, seen: Seen) -> tuple[TrustState, Verdict]:
        """Judge a set, and return the state after it, as `step` does."""
        seconds, odds = seen.seconds, self._log_odds(state, seen)
        present = seen.mask[: len(self._names)]
        told = np.where(state.distrusted, odds - self._prior - _FORGIVEN, odds)
        added = np.where(present, told.clip(-LARGEST, LARGEST), 0.0)
        evidence = (state.evidence + added).clip(0.0, 2.0 * self._threshold)
        begun = np.where((state.evidence <= 0.0) & (evidence > 0.0), seconds, state.begun)
        distrusted, evidence = self._decided(state.distrusted, evidence, present)
        recent = tuple(one for one in (*state.recent, seen) if seconds - one.seconds <= 1.5 * PAST)
        after = TrustState(seconds, evidence, begun, distrusted, recent)
        return after, self._verdict(after, present, odds)

    def _log_odds(self, state: TrustState, now: Seen) -> Numbers:
        """Return the log odds that each modality is faulty, (M,); distrusted ones are no evidence against others."""
        count, columns = len(self._names), len(now.mask)
        before, past = earlier(state, now.seconds)
        if not state.distrusted.any():  # the usual case
            return log_odds(self.judge(now, before, past, np.ones((1, columns), bool))[0])
        suspects = np.flatnonzero(state.distrusted & now.mask[:count])
        # One row without all distrusted modalities, and one for each of them, to judge it by the others.
        allowed = np.ones((1 + len(suspects), columns), bool)
        allowed[:, :count] = ~state.distrusted
        allowed[1 + np.arange(len(suspects)), suspects] = True
        each = log_odds(self.judge(now, before, past, allowed))
        odds: Numbers = each[0]
        odds[suspects] = each[1 + np.arange(len(suspects)), suspects]
        return odds

    def _decided(
        self, before: NDArray[np.bool_], evidence: Numbers, present: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], Numbers]:
        """Return which modalities are distrusted now, one more at most, and the evidence that remains."""
        distrusted = before & (evidence > _RECOVERED * self._threshold)
        share = np.where(distrusted | ~present, 0.0, evidence / self._threshold)
        worst = int(share.argmax())
        if share[worst] < 1.0:
            return distrusted, evidence
        distrusted = distrusted.copy()
        distrusted[worst] = True
        return distrusted, np.where(distrusted, evidence, 0.0)

    def _verdict(self, state: TrustState, present: NDArray[np.bool_], odds: Numbers) -> Verdict:
        trust = 1.0 - state.evidence / (2.0 * self._threshold)
        size = int(present.sum())
        suspects = np.flatnonzero(state.distrusted)
        return Verdict(
            trust={name: float(trust[m]) for m, name in enumerate(self._names) if present[m]},
            surprise={
                name: p_value(self._quantiles[m, size - 1], float(odds[m]))
                for m, name in enumerate(self._names)
                if present[m]
            },
            distrusted=tuple(self._names[m] for m in suspects),
            faulty_for={self._names[m]: state.seconds - float(state.begun[m]) for m in suspects},
            evidence={self._names[m]: float(state.evidence[m]) for m in suspects},
        )


class TorchJudge:
    """A judge in PyTorch, which computes everything anew for every set."""

    def __init__(self, fusion: nn.Module, network: TrustNetwork) -> None:
        self._fusion, self._network = fusion, network

    @torch.inference_mode()
    def __call__(self, now: Seen, before: Seen | None, past: Seen | None, allowed: NDArray[np.bool_]) -> Numbers:
        """Return what the network gives."""

        def moment(seen: Seen | None) -> Moment:
            if seen is None:
                return moment(now)._replace(mask=torch.zeros(allowed.shape, dtype=torch.bool))
            parts = (seen.embeddings, seen.traits)
            embeddings, traits = (torch.from_numpy(x).expand(len(allowed), -1, -1) for x in parts)
            return Moment(embeddings, torch.from_numpy(seen.mask & allowed), traits)

        logits: Numbers = self._network(self._fusion, *map(moment, (now, before, past))).double().numpy()
        return logits


def earlier(state: TrustState, seconds: float) -> tuple[Seen | None, Seen | None]:
    """Return the set before, and the one about `PAST` seconds earlier; None where there is none."""
    recent = [seen for seen in state.recent if 0.0 < seconds - seen.seconds <= 1.5 * PAST]
    if not recent:
        return None, None
    oldest = min(recent, key=lambda seen: abs(seconds - seen.seconds - PAST))
    return recent[-1], oldest if seconds - oldest.seconds >= 0.5 * PAST else None


def log_odds(logits: Numbers) -> Numbers:
    """Return the log odds of each modality's fault against all other hypotheses, (..., M), from (..., 1 + M) logits.

    -inf for a modality that is not there.
    """
    own = logits[..., 1:]
    # Row j of the hypotheses other than "j is faulty".
    rest = np.where(_itself(logits.shape[-1]), -np.inf, logits[..., None, :])
    with np.errstate(invalid="ignore"):
        odds: Numbers = np.where(np.isfinite(own), own - np.logaddexp.reduce(rest, axis=-1), -np.inf)
    return odds


def p_value(quantiles: Numbers, value: float) -> float:
    """Return the part of healthy sets whose value is at least as large, from ascending quantiles at equal steps."""
    below = float(np.interp(value, quantiles, _steps(len(quantiles))))
    return max(1.0 - below, 0.5 / len(quantiles))


@cache
def _itself(hypotheses: int) -> NDArray[np.bool_]:
    return np.eye(hypotheses, dtype=bool)[1:]


@cache
def _steps(count: int) -> Numbers:
    steps: Numbers = np.linspace(0.0, 1.0, count, dtype=np.float64)
    return steps
