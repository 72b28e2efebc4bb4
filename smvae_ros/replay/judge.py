"""The judge of a replay: rows of the table, errors by subset and moments for the pictures, from judged sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np

from smvae_core.modality import Modality
from smvae_core.scores import ErrorSums, Evaluation
from smvae_core.subsets import Subset
from smvae_ros.replay.inference import Judged
from smvae_ros.replay.pictures import Moment, Moments
from smvae_ros.replay.prepared import Prepared
from smvae_ros.replay.subsets import replayed_subsets
from smvae_ros.replay.table import SetTable


class Judge:
    """Sums over judged sets, in constant memory.

    Attributes:
        sets: number of sets seen so far.
        by_subset: number of sets by their modalities, joined by `+`.
        rejected: by modality, number of sets that had to do without it because its messages could not be used.
        rejected_because: by modality, the reason of the first time.
        names: names of the modalities.
        moments: candidates for the pictures.
    """

    def __init__(self, modalities: Sequence[Modality], table: SetTable) -> None:
        self.sets = 0
        self.by_subset: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.rejected_because: dict[str, str] = {}
        self.moments = Moments()
        self._modalities, self._table = modalities, table
        self.names = tuple(modality.name for modality in modalities)
        self._subsets = replayed_subsets(modalities)
        self._error_columns = {
            name: [f"error_{name}_from_{'+'.join(subset)}" for subset in self._subsets] for name in self.names
        }
        self._sums = ErrorSums(self.names, self._subsets)
        self._other_sums: dict[Subset, ErrorSums] = {}

    def see(self, prepared: Prepared, judged: Judged) -> None:
        """Add one set. Sets come in the order in which they went out."""
        self.by_subset["+".join(judged.held)] += 1
        self.rejected.update(prepared.rejected.keys())
        self.rejected_because = prepared.rejected | self.rejected_because
        self._add_errors(judged)
        self.moments.see(Moment(self.sets, prepared.seconds, prepared.arrays, prepared.truth, judged.recalled))
        self._table.write(self._row(prepared, judged))
        self.sets += 1

    def evaluation(self) -> Evaluation:
        """Return the errors from all subsets that were judged, over the sets seen so far; largest subsets first."""
        evaluation = self._sums.evaluation()
        others = [sums.evaluation().subsets[0] for sums in self._other_sums.values()]
        rows = sorted([*evaluation.subsets, *others], key=lambda row: len(row.subset), reverse=True)
        return evaluation.model_copy(update={"subsets": tuple(rows)})

    def _add_errors(self, judged: Judged) -> None:
        nothing = np.full(len(self.names), np.nan, np.float32)
        errors = np.stack([judged.errors.get(subset, nothing) for subset in self._subsets])
        held = np.array([subset in judged.errors for subset in self._subsets])
        self._sums.add(errors[None], judged.trivial[None], held[None])
        for subset, found in judged.errors.items():
            if subset not in self._subsets:
                sums = self._other_sums.setdefault(subset, ErrorSums(self.names, [subset]))
                sums.add(found[None, None], judged.trivial[None], np.array([[True]]))

    def _row(self, prepared: Prepared, judged: Judged) -> dict[str, Any]:
        sample_set = prepared.sample_set
        row: dict[str, Any] = {
            "stamp_ns": sample_set.stamp_ns,
            "epoch": sample_set.epoch,
            "log_ns": sample_set.emitted_ns,
            "reason": sample_set.reason,
            "wait_ns": sample_set.emitted_ns - sample_set.opened_ns,
            "spread_ns": sample_set.spread_ns,
            "mean": judged.mean,
            "log_variance": judged.log_variance,
            "attention_of_memory": judged.attention_of_memory,
            "memory_age": judged.memory_age,
        }
        for m, modality in enumerate(self._modalities):
            name = modality.name
            row[f"present_{name}"] = name in judged.held
            row[f"attention_{name}"] = judged.attention[m]
            if judged.verdict is not None:
                row[f"trust_{name}"] = judged.verdict.trust.get(name)
                row[f"distrusted_{name}"] = name in judged.verdict.distrusted
            if name in judged.held:
                row[f"age_{name}"] = sample_set.ages_ns[name] / 1e9
            if name not in prepared.truth:
                continue
            row[f"error_{name}_from_set"] = judged.from_set[m]
            row |= {
                column: errors[m]
                for column, subset in zip(self._error_columns[name], self._subsets)
                if (errors := judged.errors.get(subset)) is not None and not isnan(errors[m])
            }
        for modality in self._modalities:
            if modality.network == "image":
                continue
            name = modality.name
            for column, array in (
                (f"seen_{name}", prepared.truth.get(name)),
                (f"predicted_{name}", judged.predicted[name]),
                (f"predicted_{name}_without", judged.without.get(name)),
            ):
                if array is not None:
                    row[column] = _newest(modality, array)
        return row


def _newest(modality: Modality, array: np.ndarray) -> np.ndarray:
    physical = modality.to_physical(array)
    return physical[-1] if modality.network == "sequence" else physical
