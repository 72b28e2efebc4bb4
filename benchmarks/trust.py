"""Does a node notice a sensor that lies, and blame the right one? Faults of all modalities, in logs of a test part.

python -m benchmarks.trust --checkpoint runs/first --data logs            at least 24 faults, 100 episodes of each
python -m benchmarks.trust --checkpoint runs/first --data logs --quick    12 episodes of each

An episode is a fault of one modality for 0.5 to 5 s at a random time of a healthy log that neither the model, nor
trust, nor its calibration has seen. A frozen camera while nothing moves cannot be told from a healthy one, nor can a
zeroed force while nothing touches. So an episode of other, old or zero samples begins at the first one that differs
from the true one by more than a tenth of the spread of the modality. An episode in which none does is drawn anew.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import mannwhitneyu

from benchmarks.report import RESULTS, Goal, report
from smvae_core.checkpoint import Checkpoint, load
from smvae_core.data.faults import FaultKind, faulty, stuck
from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.evaluation.held_out import read_logs_to_judge
from smvae_core.evaluation.trust import PERIOD, columns_of, evidence_of, healthy_runs, odds_of
from smvae_core.modality import Modality
from smvae_core.training.run import best_of

Array = NDArray[np.float32]
_BEFORE = 15
"""Healthy steps before a fault."""
_SOON = 10
"""Steps of the first half second."""
_DETECTABLE = 0.1


@dataclass(frozen=True)
class Fault:
    """A fault of the benchmark.

    Attributes:
        kind: of `smvae_core.data.faults`; or frozen, late (half a second), other (the samples of another log).
    """

    modality: str
    kind: str
    amount: float = 0.0

    @property
    def name(self) -> str:
        """The fault in words."""
        return f"{self.modality} {self.kind}" + (f" {self.amount:g}" if self.amount else "")


_KINDS: dict[str, list[tuple[str, float]]] = {
    "rgb": [("frozen", 0), ("late", 0), ("other", 0), ("dim", 0.7), ("noise", 0.1), ("cover", 0.25), ("shift", 3)],
    "depth": [
        ("frozen", 0), ("late", 0), ("other", 0), ("scale", 1.03), ("scale", 1.1), ("noise", 0.05), ("cover", 0.25),
        ("shift", 3),
    ],
    "force": [("frozen", 0), ("other", 0), ("zero", 0), ("bias", 2), ("scale", 2), ("scale", -1), ("noise", 0.3)],
    "action": [("frozen", 0), ("other", 0), ("zero", 0), ("scale", 2), ("scale", -1), ("noise", 1)],
}  # fmt: skip
FAULTS = tuple(Fault(modality, kind, amount) for modality, kinds in _KINDS.items() for kind, amount in kinds)


@dataclass
class Found:
    """What was measured of one fault, or of health: one entry for each episode."""

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
    """A checkpoint with trust, and the healthy test logs."""

    def __init__(self, loaded: Checkpoint, samples: Samples) -> None:
        assert loaded.trust is not None and loaded.metadata.trust is not None
        self.model, self.network = loaded.model, loaded.trust
        self.threshold = np.array(loaded.metadata.trust.threshold)
        self.samples = samples
        self.numbers = np.unique(samples.trajectory)
        self.runs = healthy_runs(loaded.model, samples)
        self.arrays = [self._arrays(number) for number in self.numbers]
        self.spread = {name: float(np.concatenate([a[name] for a in self.arrays]).std(axis=0).mean()) or 1.0
                       for name in loaded.model.names}  # fmt: skip

    def _arrays(self, number: int) -> dict[str, Array]:
        own = self.samples.select(np.flatnonzero(self.samples.trajectory == number))
        batch, _ = own.batch(np.arange(len(own)))
        return {name: x.numpy() for name, x in batch.items()}

    def false_alarms(self) -> tuple[int, float]:
        """Return the healthy trajectories in which a modality would be distrusted, and the hours of all."""
        alarms = 0
        for embeddings, available in self.runs:
            evidence = evidence_of(self._odds(embeddings, available))
            alarms += bool((evidence >= self.threshold).any())
        return alarms, sum(len(embeddings) for embeddings, _ in self.runs) * PERIOD / 3600.0

    def episode(self, fault: Fault, random: np.random.Generator, found: Found) -> bool:
        """Measure one episode; return whether it could be noticed in principle."""
        run = int(random.integers(len(self.runs)))
        embeddings, available = self.runs[run]
        steps = int(random.integers(_SOON, 100))
        start = int(random.integers(_BEFORE, len(embeddings) - steps - 1))
        modality = self.model.modalities[fault.modality]
        column = self.model.names.index(fault.modality)
        true = self.arrays[run][fault.modality][start - 1 : start + steps]
        sent = self._sent(modality, fault, run, start, true, random)
        if fault.kind in ("frozen", "late", "other", "zero"):
            differs = np.sqrt(np.square(sent - true[1:]).reshape(steps, -1).mean(axis=1))
            seen = np.flatnonzero(differs > _DETECTABLE * self.spread[fault.modality])
            if not len(seen) or steps - seen[0] < _SOON:
                return False
            begin = int(seen[0])
        else:
            begin = 0
        rows = slice(start - _BEFORE, start + steps)
        mask, clean = available[rows], embeddings[rows]
        changed = clean.clone()
        with torch.inference_mode():
            changed[_BEFORE:, column] = self.model.embeddings[fault.modality](torch.from_numpy(sent))
        usable = torch.from_numpy(modality.is_valid(sent))
        faulty_mask = mask.clone()
        faulty_mask[_BEFORE:, column] &= usable
        first = _BEFORE + begin
        odds = self._odds(changed, faulty_mask)
        evidence, half = evidence_of(odds), slice(first, first + _SOON)
        found.soon.append(_sum(odds[half, column]))
        found.healthy.append(_sum(self._odds(clean, mask)[half, column]))
        share = evidence[_BEFORE:] / self.threshold
        alarms = np.flatnonzero((share >= 1.0).any(axis=1))
        found.noticed.append(bool(len(alarms)))
        if len(alarms):
            found.blamed.append(int(share[alarms[0]].argmax()) == column)
            found.after.append((alarms[0] - begin + 1) * PERIOD)
        return True

    def _odds(self, embeddings: torch.Tensor, mask: torch.Tensor) -> NDArray[np.float64]:
        columns = columns_of(self.model, embeddings[None], mask[None])
        return odds_of(self.model.fusion, self.network, columns.embeddings[0], columns.mask[0])

    def _sent(
        self, modality: Modality, fault: Fault, run: int, start: int, true: Array, random: np.random.Generator
    ) -> Array:
        """Return what the sensor sends in place of `true[1:]`; `true[0]` is its last healthy sample."""
        steps, arrays = len(true) - 1, self.arrays[run][fault.modality]
        if fault.kind == "frozen":
            repeated: Array = np.repeat(stuck(modality, true[:1]), steps, axis=0)
            return repeated
        if fault.kind == "late":
            late: Array = arrays[np.maximum(np.arange(start, start + steps) - _SOON, 0)]
            return late
        if fault.kind == "other":
            other = self.arrays[(run + 1 + int(random.integers(len(self.runs) - 1))) % len(self.runs)][fault.modality]
            begin = int(random.integers(max(1, len(other) - steps)))
            foreign: Array = other[np.minimum(np.arange(begin, begin + steps), len(other) - 1)]
            return foreign
        kind: FaultKind = fault.kind  # type: ignore[assignment]
        return faulty(modality, kind, true[1:], fault.amount, random)


def _sum(odds: NDArray[np.float64]) -> float:
    """Return the sum of the log odds where the modality was there."""
    return float(odds[np.isfinite(odds)].sum())


def main() -> None:
    """Measure, print and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="with trust, as smvae trust makes it")
    parser.add_argument("--data", type=Path, required=True, help="the logs that it was trained on")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="12 episodes of each fault")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    loaded = load(best_of(options.checkpoint))
    if loaded.trust is None:
        parser.error(f"{options.checkpoint}: expected a checkpoint with trust, found one without; smvae trust adds it")
    held_out, _ = read_logs_to_judge(loaded.metadata, options.data, True, None, False, Console(stderr=True))
    test = split_by_trajectory(held_out, 0.5, seed=0)[1] if len(held_out.held) > 1 else held_out
    bench = Bench(loaded, test)
    episodes = 12 if options.quick else options.episodes
    table = measured(bench, [fault for fault in FAULTS if fault.modality in loaded.model.names], episodes)
    alarms, hours = bench.false_alarms()
    record = loaded.metadata.trust
    assert record is not None
    report(
        "Trust",
        f"python -m benchmarks.trust --checkpoint CHECKPOINT --data LOGS --episodes {episodes}",
        f"{len(table)} faults, {episodes} episodes of 0.5 to 5 s each, in {len(bench.runs)} test logs that neither the "
        f"model nor its trust has seen. Trust was calibrated on {len(record.calibrated_on)} other held-out logs. "
        "AUROC: log odds summed over the first half second of a fault, against the same half second without it. "
        "Noticed: a "
        "modality reaches its threshold before the fault ends. Right: it is the faulty one. After: median time to it. "
        "Old, foreign and zero samples count from the first one that differs from the true one by a tenth of the "
        "modality's spread: until then the sensor is not wrong.",
        [*_rows(table), *_goals(table, *bench.false_alarms())],
        options.results,
    )


def _rows(table: dict[Fault, Found]) -> list[Goal]:
    rows = []
    for fault, found in table.items():
        if not found.soon:
            rows.append(Goal(fault.name, "never differs from the truth", "AUROC ≥ 0.85", False))
            continue
        after = f", after {np.median(found.after):.2f} s" if found.after else ""
        right = f", right {np.mean(found.blamed):.0%}" if found.blamed else ""
        measured_as = f"AUROC {found.auroc:.3f}, noticed {np.mean(found.noticed):.0%}{right}{after}"
        rows.append(Goal(fault.name, measured_as, "AUROC ≥ 0.85", found.auroc >= 0.85))
    return rows


def _goals(table: dict[Fault, Found], alarms: int, hours: float) -> list[Goal]:
    counted = sorted((found for found in table.values() if found.soon), key=lambda found: -found.auroc)
    best = counted[:20]
    good = sum(found.auroc >= 0.95 for found in counted)
    noticed = float(np.mean([seen for found in best for seen in found.noticed])) if best else 0.0
    blamed = [right for found in counted for right in found.blamed]
    right = float(np.mean(blamed)) if blamed else 0.0
    return [
        Goal("faults with AUROC of at least 0.95", f"{good} of {len(table)}", "≥ 20", good >= 20),
        Goal("the 20 best faults noticed", f"{noticed:.0%}", "≥ 90 %", noticed >= 0.9),
        Goal("the right modality blamed, of all that were noticed", f"{right:.0%}", "≥ 95 %", right >= 0.95),
        Goal(f"healthy logs with an alarm, {60 * hours:.0f} minutes", str(alarms), "0", not alarms),
    ]


def measured(
    bench: Bench, faults: Sequence[Fault], episodes: int, on_fault: Callable[[Fault, Found], None] = lambda *_: None
) -> dict[Fault, Found]:
    """Return what was measured of each fault; the same input gives the same figures."""
    table = {}
    for number, fault in enumerate(faults):
        random, found = np.random.default_rng(number), Found()
        tries = 0
        while len(found.soon) < episodes and tries < 20 * episodes:
            bench.episode(fault, random, found)
            tries += 1
        table[fault] = found
        on_fault(fault, found)
    return table


if __name__ == "__main__":
    main()
