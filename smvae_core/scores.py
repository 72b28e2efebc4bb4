"""Prediction errors by subset: the one place where errors become normalised errors (NMSE).

`ErrorSums` adds up the errors of single samples; `Evaluation` holds the means that are shown and saved. `merged` joins
the evaluations of several processes or bags.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from smvae_core.subsets import Subset

# Mean squared error, in model units, below which a modality counts as always equal to the training mean. Model units
# are of the order of one, and rounding to 32 bits alone gives less than 1e-14.
_CONSTANT = 1e-12


def normalised(mse: float, trivial: float) -> float | None:
    """Return an error divided by the error of always predicting the training mean.

    Args:
        mse: mean squared error, model units.
        trivial: mean squared error of predicting the training mean.

    Returns:
        None where the modality never differs from the training mean, so that there is nothing to compare with.
    """
    return mse / trivial if trivial > _CONSTANT else None


def with_old_names(record: Any) -> Any:
    """Return a record with `nmse` where version 0.1 wrote `share`; other input is returned as it is."""
    if isinstance(record, dict) and "share" in record and "nmse" not in record:
        return {"nmse" if key == "share" else key: value for key, value in record.items()}
    return record


class SubsetErrors(BaseModel):
    """Errors of the predictions made from one subset, over the samples that have all of it.

    A modality that no such sample has is in none of the dictionaries.

    Attributes:
        subset: modalities that the posterior saw.
        samples: number of samples that have all of `subset`.
        scored: number of these that have each modality, so that its prediction could be judged.
        mse: mean squared error of each modality, model units, predicted by the posterior's mean.
        trivial: mean squared error of predicting the training mean instead.
        nmse: `mse` divided by `trivial`; below 1 something was learned. A modality that never differs from the training
            mean has none.
        log_likelihood: log E_{z ~ q(z | X_s)} p(x_m | z) of each modality, in nats, by a few draws of z.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subset: Subset
    samples: int
    scored: dict[str, int] = {}
    mse: dict[str, float]
    trivial: dict[str, float] = {}
    nmse: dict[str, float]
    log_likelihood: dict[str, float] = {}

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, record: Any) -> Any:
        """Read what version 0.1 wrote: `share` for `nmse`, neither `scored` nor `trivial`."""
        record = with_old_names(record)
        if not isinstance(record, dict) or not {"samples", "mse", "nmse"} <= record.keys():
            return record
        mse, nmse = record["mse"], record["nmse"]
        if "scored" not in record:
            record = record | {"scored": {name: record["samples"] for name in mse}}
        if "trivial" not in record:
            record = record | {"trivial": {name: mse[name] / nmse[name] for name in mse if nmse.get(name)}}
        return record


class Evaluation(BaseModel):
    """Errors of all evaluated subsets, on `samples` held-out samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int
    subsets: tuple[SubsetErrors, ...]

    def of(self, *subset: str) -> SubsetErrors:
        """Return the errors of one subset, whose modalities may be named in any order.

        Raises:
            KeyError: the subset was not evaluated.
        """
        for row in self.subsets:
            if set(row.subset) == set(subset):
                return row
        raise KeyError(subset)


class ErrorSums:
    """Sums of the errors of samples, by subset (S rows) and modality (M columns), in double precision."""

    def __init__(self, names: Sequence[str], subsets: Sequence[Subset]) -> None:
        self.names, self.subsets = tuple(names), tuple(subsets)
        self.samples = 0
        shape = (len(self.subsets), len(self.names))
        self._held = np.zeros(shape[0], np.int64)
        self._scored, self._drawn = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._squared, self._trivial, self._log_likelihood = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(
        self,
        errors: NDArray[Any],
        trivial: NDArray[Any],
        held: NDArray[np.bool_],
        log_likelihood: NDArray[Any] | None = None,
    ) -> None:
        """Add a batch of samples.

        Args:
            errors: mean squared error of each modality from each subset, (B, S, M); NaN where it is not judged.
            trivial: mean squared error of predicting the training mean, (B, M).
            held: whether the sample has all of a subset, (B, S).
            log_likelihood: in nats, (B, S, M); used where `errors` is not NaN.
        """
        judged = ~np.isnan(errors)
        self.samples += len(errors)
        self._held += held.sum(axis=0)
        self._scored += judged.sum(axis=0)
        self._squared += np.where(judged, errors, 0.0).sum(axis=0, dtype=np.float64)
        self._trivial += np.where(judged, trivial[:, None], 0.0).sum(axis=0, dtype=np.float64)
        if log_likelihood is not None:
            self._drawn += judged.sum(axis=0)
            self._log_likelihood += np.where(judged, log_likelihood, 0.0).sum(axis=0, dtype=np.float64)

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Add the samples behind an evaluation; a subset that it lacks gets none."""
        self.samples += evaluation.samples
        rows = {frozenset(row.subset): row for row in evaluation.subsets}
        for s, subset in enumerate(self.subsets):
            row = rows.get(frozenset(subset))
            if row is None:
                continue
            self._held[s] += row.samples
            for m, name in enumerate(self.names):
                scored = row.scored.get(name, 0)
                self._scored[s, m] += scored
                self._squared[s, m] += scored * row.mse.get(name, 0.0)
                self._trivial[s, m] += scored * row.trivial.get(name, 0.0)
                if name in row.log_likelihood:
                    self._drawn[s, m] += scored
                    self._log_likelihood[s, m] += scored * row.log_likelihood[name]

    def evaluation(self) -> Evaluation:
        """Return the means over all samples that were added."""
        return Evaluation(samples=self.samples, subsets=tuple(self._row(s) for s in range(len(self.subsets))))

    def _row(self, s: int) -> SubsetErrors:
        scored = {name: int(n) for name, n in zip(self.names, self._scored[s]) if n}
        mse = self._means(self._squared[s], self._scored[s])
        trivial = self._means(self._trivial[s], self._scored[s])
        nmse = {name: normalised(mse[name], trivial[name]) for name in scored}
        return SubsetErrors(
            subset=self.subsets[s],
            samples=int(self._held[s]),
            scored=scored,
            mse=mse,
            trivial=trivial,
            nmse={name: value for name, value in nmse.items() if value is not None},
            log_likelihood=self._means(self._log_likelihood[s], self._drawn[s]),
        )

    def _means(self, sums: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, float]:
        return {name: float(total / n) for name, total, n in zip(self.names, sums, counts) if n}


def merged(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the evaluation of all samples together, every sample weighing the same; None of no evaluation.

    It has all subsets of any of them, largest first.
    """
    if not evaluations:
        return None
    subsets = dict.fromkeys(row.subset for evaluation in evaluations for row in evaluation.subsets)
    names = dict.fromkeys(name for evaluation in evaluations for row in evaluation.subsets for name in row.mse)
    sums = ErrorSums(list(names), sorted(subsets, key=len, reverse=True))
    for evaluation in evaluations:
        sums.add_evaluation(evaluation)
    return sums.evaluation()
