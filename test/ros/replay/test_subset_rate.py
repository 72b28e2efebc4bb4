"""How often images are predicted from every subset: fewer, but the same errors, and all others untouched."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.errors import ConfigurationError
from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.subsets import SubsetRate, usual_rate
from smvae_ros.report.series import standing
from smvae_ros.synchronizer.sample_set import SampleSet

from ..command import smvae

IMAGES, OTHERS = ("rgb", "depth"), ("force", "action")


def set_at(stamp_ns: int, epoch: int = 0) -> SampleSet:
    return SampleSet(stamp_ns, epoch, {}, "complete", stamp_ns, stamp_ns)


@given(
    spacings_ms=st.lists(st.integers(1, 2000), min_size=1, max_size=200),
    rate=st.floats(0.1, 100.0),
    begin_ns=st.integers(0, 2 * 10**18),
)
def test_of_each_period_one_set_is_taken_and_none_of_a_period_without_sets(
    spacings_ms: list[int], rate: float, begin_ns: int
) -> None:
    stamps = begin_ns + np.cumsum(spacings_ms) * 1_000_000
    chosen = SubsetRate(rate)
    taken = [chosen.takes(set_at(int(stamp))) for stamp in stamps]
    assert taken[0]
    periods = [stamp // (1e9 / rate) for stamp in stamps.tolist()]
    assert sum(taken) == len(set(periods))


def test_a_rate_of_0_takes_every_set_and_time_that_jumps_back_begins_a_period() -> None:
    every, some = SubsetRate(0.0), SubsetRate(1.0)
    assert all(every.takes(set_at(n)) for n in (5, 5, 6))
    assert [some.takes(set_at(10, epoch)) for epoch in (0, 0, 1, 1)] == [True, False, True, False]


def test_images_of_some_sets_are_predicted_from_every_subset_with_the_same_errors(
    results: Path, bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    rate = 1e9 / (4 * STEP_NS)
    summary = replay(bag, tmp_path / "out", ReplayJob(checkpoint, device="cpu", subset_rate=rate), threads=2)
    whole, some = (pq.read_table(path / "sets.parquet").to_pydict() for path in (results, tmp_path / "out"))
    rows = len(some["stamp_ns"])
    judged = [row for row, error in enumerate(some["error_rgb_from_force"]) if error is not None]
    assert rows // 4 <= len(judged) <= rows // 4 + 1
    for column, values in some.items():
        sampled = any(column.startswith(f"error_{name}_from_") for name in IMAGES) and not column.endswith("_from_set")
        expected = [value if row in judged or not sampled else None for row, value in enumerate(whole[column])]
        if column.startswith("error_"):  # other rows are decoded together, which may change the last bits
            np.testing.assert_allclose(np.array(values, float), np.array(expected, float), rtol=1e-4, err_msg=column)
        else:
            assert values == expected, column
    for row in summary.evaluation.subsets:
        assert row.samples == rows
        assert [row.scored[name] for name in (*IMAGES, *OTHERS)] == [len(judged)] * 2 + [rows] * 2
    assert summary.subset_rate == rate


@pytest.mark.parametrize("rate", ["-1", "nan", "inf"])
def test_no_rate_is_refused_by_name(rate: str, bag: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="subset_rate: expected .* 0 for every set"):
        ReplayJob(subset_rate=float(rate))
    done = smvae("replay", bag, "--out", tmp_path / "out", f"--subset-rate={rate}")
    assert done.returncode == 2
    assert "subset_rate: expected" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seconds", "rate"), [(None, 0.0), (0.5, 0.0), (30.0, 0.0), (31.0, 5.0), (3600.0, 5.0)])
def test_a_short_bag_and_one_of_unknown_length_have_every_set_taken(seconds: float | None, rate: float) -> None:
    assert usual_rate(seconds) == rate


def test_the_page_says_how_many_sets_were_taken(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("replay", bag, "--out", tmp_path, "--checkpoint", checkpoint, "--device", "cpu")
    for options, sentence in (
        (("--subset-rate", 5), "images over 5 of them a second"),
        ((), "held all of its modalities. "),
    ):
        done = smvae(*arguments, *options)
        assert done.returncode == 0, done.stderr
        assert sentence in (tmp_path / "report.html").read_text()


def test_in_a_chart_an_error_stands_until_the_next_one_but_not_for_longer_than_told() -> None:
    nan = np.nan
    values = np.array([nan, 1.0, nan, nan, 2.0, nan, nan])
    where = np.array([True, True, True, False, True, True, True])
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    np.testing.assert_array_equal(standing(values, where, seconds, 2.0), [nan, 1.0, 1.0, nan, 2.0, 2.0, nan])
