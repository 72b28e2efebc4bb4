"""The judge of a replay: rows of the table, errors by subset and moments for the pictures, from judged sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from smvae_core.modality import Modality, ModalityError
from smvae_core.scores import ErrorSums, Evaluation
from smvae_core.subsets import Subset
from smvae_ros.conversions.arrays import frame_id, set_arrays
from smvae_ros.conversions.bindings import Binding
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.inference import Judged
from smvae_ros.replay.pictures import Moment, Moments
from smvae_ros.replay.sets import RecordedSet
from smvae_ros.replay.subsets import replayed_subsets
from smvae_ros.replay.table import SetTable
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet


@dataclass(frozen=True)
class Prepared:
    """A set on its way to the model, without its messages.

    Attributes:
        sample_set: the set with only the newest sample of each modality, without its message.
        arrays: what reached the set and could be used, with the faults of the what-if, model units.
        truth: what the bag holds for the set's moment, model units.
        rejected: by modality, why its messages could not be used.
        frames: by modality in the set, the frame of its newest message.
        in_full: whether its images are predicted from every subset.
    """

    sample_set: SampleSet
    arrays: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    rejected: dict[str, str]
    frames: dict[str, str]
    in_full: bool


def prepare(
    recorded: RecordedSet, bindings: Sequence[Binding], faults: Faults, begin_ns: int, in_full: bool
) -> Prepared:
    """Convert the messages of a set and of its truth to arrays. The bag's first receive time is `begin_ns`."""
    sample_set = recorded.sample_set
    arrays, rejected = set_arrays(bindings, sample_set)
    others = {
        name: samples
        for name, samples in recorded.recorded.items()
        if name not in rejected and _stamps(samples) != _stamps(sample_set.samples.get(name, ()))
    }
    truth, _ = set_arrays(bindings, sample_set._replace(samples=others))
    truth |= {name: arrays[name] for name in recorded.recorded if name in arrays and name not in others}
    arrays, blank = _disturbed(arrays, recorded, bindings, faults, begin_ns)
    return Prepared(
        sample_set=sample_set._replace(
            samples={name: (Sample(samples[-1].stamp_ns, None),) for name, samples in sample_set.samples.items()}
        ),
        arrays=arrays,
        truth=truth,
        rejected=rejected | blank,
        frames={
            binding.modality.name: frame_id(binding, samples[-1].data)
            for binding in bindings
            if (samples := sample_set.samples.get(binding.modality.name))
        },
        in_full=in_full,
    )


def _disturbed(
    arrays: dict[str, np.ndarray], recorded: RecordedSet, bindings: Sequence[Binding], faults: Faults, begin_ns: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays with the faults of the what-if, and why those that carry nothing any more count as absent."""
    since_ns = recorded.sample_set.emitted_ns - begin_ns
    kept, blank = {}, {}
    for binding in bindings:
        name = binding.modality.name
        if name in arrays:
            array = faults.disturbed(name, arrays[name], recorded.sample_set.samples[name], since_ns)
            try:
                if array is not arrays[name]:  # the others have been checked
                    binding.modality.check_valid(array)
                kept[name] = array
            except ModalityError as error:
                blank[name] = str(error)
    return kept, blank


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

    def see(self, prepared: Prepared, judged: Judged, begin_ns: int) -> None:
        """Add one set. Sets come in the order in which they went out; `begin_ns` is the bag's first receive time."""
        self.by_subset["+".join(judged.held)] += 1
        self.rejected.update(prepared.rejected.keys())
        self.rejected_because = prepared.rejected | self.rejected_because
        self._add_errors(judged)
        seconds = (prepared.sample_set.emitted_ns - begin_ns) / 1e9
        self.moments.see(Moment(self.sets, seconds, prepared.arrays, prepared.truth, judged.recalled))
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


def _stamps(samples: Sequence[Sample]) -> list[int]:
    return [sample.stamp_ns for sample in samples]


def _newest(modality: Modality, array: np.ndarray) -> np.ndarray:
    physical = modality.to_physical(array)
    return physical[-1] if modality.network == "sequence" else physical
