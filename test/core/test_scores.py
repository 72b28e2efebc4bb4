"""Errors by subset: sums, means, merging, and what older versions wrote."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.scores import ErrorSums, Evaluation, SubsetErrors, merged, normalised
from smvae_core.subsets import all_subsets

NAMES = ("rgb", "force")
SUBSETS = all_subsets(NAMES)


def row(samples: int, mse: float, nmse: float) -> SubsetErrors:
    return SubsetErrors(subset=("rgb",), samples=samples, mse={"rgb": mse}, nmse={"rgb": nmse})


def test_evaluations_are_merged_by_their_samples() -> None:
    none = SubsetErrors(subset=("rgb",), samples=0, mse={}, nmse={})
    rows = (row(10, 1.0, 0.5), row(30, 2.0, 0.25), none)
    found = merged([Evaluation(samples=40, subsets=(one,)) for one in rows])
    assert found is not None and found.samples == 120
    (together,) = found.subsets
    assert together.samples == 40
    assert together.mse["rgb"] == pytest.approx((10 * 1.0 + 30 * 2.0) / 40)
    # The training mean's errors were 2 and 8.
    assert together.nmse["rgb"] == pytest.approx((10 * 1.0 + 30 * 2.0) / (10 * 2.0 + 30 * 8.0))


def test_no_evaluation_is_merged_to_none() -> None:
    assert merged([]) is None


def test_merged_evaluations_have_the_subsets_of_all_largest_first() -> None:
    both, other = (SubsetErrors(subset=s, samples=2, mse={}, nmse={}) for s in (("rgb", "force"), ("force",)))
    found = merged([Evaluation(samples=n, subsets=rows) for n, rows in ((4, (row(4, 1.0, 1.0), other)), (2, (both,)))])
    assert found is not None and found.samples == 6
    assert [(one.subset, one.samples) for one in found.subsets] == [
        (("rgb", "force"), 2),
        (("rgb",), 4),
        (("force",), 2),
    ]


def random_errors(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return errors with gaps, trivial errors, held subsets and log-likelihoods of `count` samples."""
    random = np.random.default_rng(seed)
    available = random.random((count, len(NAMES))) < 0.7
    held = np.stack([available[:, [NAMES.index(n) for n in subset]].all(axis=1) for subset in SUBSETS], axis=1)
    errors = random.random((count, len(SUBSETS), len(NAMES)))
    errors[~(held[:, :, None] & available[:, None])] = np.nan
    return errors, random.random((count, len(NAMES))), held, random.normal(size=errors.shape)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 100))
def test_parts_merge_to_what_all_samples_give(counts: list[int], seed: int) -> None:
    whole, parts = ErrorSums(NAMES, SUBSETS), []
    for number, count in enumerate(counts):
        batch = random_errors(count, seed + number)
        part = ErrorSums(NAMES, SUBSETS)
        part.add(*batch)
        whole.add(*batch)
        parts.append(Evaluation.model_validate_json(part.evaluation().model_dump_json()))
    found, expected = merged(parts), whole.evaluation()
    assert found is not None and found.samples == expected.samples == sum(counts)
    for one, other in zip(found.subsets, expected.subsets):
        assert (one.subset, one.samples, one.scored) == (other.subset, other.samples, other.scored)
        for key in ("mse", "trivial", "nmse", "log_likelihood"):
            assert getattr(one, key) == pytest.approx(getattr(other, key))


def test_sums_agree_with_means_by_hand() -> None:
    errors, trivial, held, nats = random_errors(50, seed=3)
    sums = ErrorSums(NAMES, SUBSETS)
    for rows in np.array_split(np.arange(50), 7):
        sums.add(errors[rows], trivial[rows], held[rows], nats[rows])
    for s, found in enumerate(sums.evaluation().subsets):
        assert found.samples == held[:, s].sum()
        for m, name in enumerate(NAMES):
            judged = ~np.isnan(errors[:, s, m])
            assert found.scored[name] == judged.sum()
            assert found.nmse[name] == pytest.approx(errors[judged, s, m].sum() / trivial[judged, m].sum())
            assert found.log_likelihood[name] == pytest.approx(nats[judged, s, m].mean())


@pytest.mark.parametrize("trivial", [0.0, 3e-15])
def test_a_modality_that_never_differs_from_its_mean_has_no_nmse(trivial: float) -> None:
    sums = ErrorSums(NAMES, SUBSETS)
    sums.add(np.full((4, 3, 2), 2.0), np.tile([1.0, trivial], (4, 1)), np.ones((4, 3), bool))
    for found in sums.evaluation().subsets:
        assert found.nmse == {"rgb": 2.0} and found.mse == {"rgb": 2.0, "force": 2.0}
    assert normalised(2.0, trivial) is None


def test_errors_of_version_0_1_are_read() -> None:
    old = {"subset": ["rgb"], "samples": 4, "mse": {"rgb": 1.0, "force": 2.0}, "share": {"rgb": 0.5}}
    found = SubsetErrors.model_validate(old)
    assert found.nmse == {"rgb": 0.5} and found.trivial == {"rgb": 2.0} and found.scored == {"rgb": 4, "force": 4}
    assert "share" not in found.model_dump()
