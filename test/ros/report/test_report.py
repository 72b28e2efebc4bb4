"""What the report says is what the results hold."""

import base64
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smvae_core.scores import Evaluation
from smvae_ros.replay.summary import BagResult, Fault, ReplaysSummary, WhatIf
from smvae_ros.report.findings import _absences, findings, outages, silences
from smvae_ros.report.latent import latent_plane
from smvae_ros.report.memory import horizon, seconds_off
from smvae_ros.report.results import ReportError, Sets, read_results
from smvae_ros.report.series import SPANS, Spans
from smvae_ros.report.write import write_index, write_report

from .made_up import NAMES, quality, write_results


@pytest.fixture(scope="module")
def folder(report):
    return report.parent


@pytest.fixture(scope="module")
def results(folder):
    return read_results(folder)


def some_sets(seconds, present, mean=None) -> Sets:
    """Sets of which only these are of interest."""
    nothing = np.zeros(len(seconds))
    return Sets(
        seconds=np.asarray(seconds, float),
        jumps=[],
        reason=np.full(len(seconds), "complete", object),
        wait_ms=nothing,
        spread_ms=nothing,
        present={name: np.asarray(held, bool) for name, held in present.items()},
        age_ms={},
        attention={},
        mean=np.zeros((len(seconds), 2)) if mean is None else mean,
        errors={},
        seen={},
        predicted={},
        without={},
        memory_age=np.full(len(seconds), np.nan),
        trust={},
        distrusted={},
        attention_of_memory=nothing,
    )


def test_it_is_one_file_that_names_nothing_outside_itself(report):
    text = report.read_text()
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+\.\w[^\s\"'<]*", re.sub(r"base64,[\w+/=]*", "", text)))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"<link(?![^>]*href=\"data:)|<script[^>]*src=|@import|url\((?!#)", text)
    assert report.stat().st_size < 2_000_000


def test_the_same_results_give_the_same_bytes(report, folder):
    before = report.read_bytes()
    assert write_report(folder).read_bytes() == before


def test_the_four_questions_are_answered(results):
    good, absent, blind, liar = findings(results)
    assert good.verdict == "good" and "rgb: 8.0\N{NO-BREAK SPACE}% from all modalities" in good.details[0]
    assert "longest 3.0 s (75 sets) from 0:06.0" in absent.details[0]
    assert absent.details[1] == "depth: never"
    assert absent.word == "15\N{NO-BREAK SPACE}% incomplete"
    worst = max(quality(name, ("force", "action")) for name in NAMES)
    assert blind.verdict == "fair" and f"{100 * worst:.0f}" in blind.answer
    assert "without rgb" in blind.details[0] and "without any camera" in blind.details[2]
    assert liar.question == "Did a sensor lie?" and liar.verdict == "good"


def test_the_time_since_a_modality_was_there_begins_with_the_last_set_that_held_it():
    sets = some_sets([0.0, 1.0, 2.0, 4.0, 5.0, 7.0], {"rgb": [False, True, False, False, True, False]})
    np.testing.assert_array_equal(seconds_off(sets, "rgb"), [np.nan, np.nan, 1.0, 3.0, np.nan, 2.0])
    # After a jump of time nothing of before counts.
    jumped = replace(sets, jumps=[3.0])
    np.testing.assert_array_equal(seconds_off(jumped, "rgb"), [np.nan, np.nan, 1.0, np.nan, np.nan, 2.0])


def test_a_missing_modality_is_better_than_the_mean_up_to_the_first_age_at_which_it_is_not():
    assert horizon([0.2, None, 0.4, 1.3, 0.9, None, None, None]) == 0.5
    assert horizon([1.0] + [0.1] * 7) == 0.0
    assert horizon([0.1] * 8) == 30.0


def test_the_report_of_a_model_without_memory_says_so_and_shows_what_outages_cost(report):
    text = report.read_text()
    assert "The checkpoint has no memory" in text and 'id="memory-table"' in text


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_outages_are_the_runs_of_absence(present):
    found = outages(some_sets(np.arange(len(present)), {"rgb": present}))
    covered = np.zeros(len(present), bool)
    for outage in found:
        first = int(outage.start)
        assert not covered[first : first + outage.sets].any()
        covered[first : first + outage.sets] = True
    assert (covered == ~np.array(present)).all()
    assert [o.end - o.start for o in found] == sorted((o.end - o.start for o in found), reverse=True)


def test_a_time_without_any_set_is_told():
    times = np.concatenate([np.arange(0, 4, 0.05), np.arange(9, 12, 0.05)])
    sets = some_sets(times, {"rgb": times >= 0})
    assert silences(sets) == [(pytest.approx(3.95), pytest.approx(9.0))]
    answer = _absences(sets)
    assert answer.word == "5.0 s without a set"
    assert answer.details == ["no set at all: once; longest 5.0 s from 0:04.0"]


@given(arrays(np.float64, st.integers(1, 400), elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))))
def test_a_series_keeps_least_most_and_mean_of_each_span(values):
    spans = Spans(np.arange(len(values), dtype=float))
    packed = spans.series(values)
    steps = np.frombuffer(base64.b64decode(packed["mean"]), "<u2")
    unpacked = np.where(steps == 65535, np.nan, packed["low"] + steps / 65534 * (packed["high"] - packed["low"]))
    np.testing.assert_allclose(unpacked, values, atol=(packed["high"] - packed["low"]) / 65534 + 1e-9)


def test_a_peak_survives_in_a_long_series():
    values = np.zeros(20 * SPANS)
    values[7777], values[5] = 3.0, np.nan
    packed = Spans(np.arange(len(values)) / 30).series(values)
    most = np.frombuffer(base64.b64decode(packed["most"]), "<u2")
    mean = np.frombuffer(base64.b64decode(packed["mean"]), "<u2")
    assert len(most) == SPANS and np.flatnonzero(most).tolist() == [7777 // 20]
    assert 0 < mean[7777 // 20] < most[7777 // 20] == 65534


def test_principal_components_are_those_of_the_singular_values():
    mean = np.random.default_rng(0).normal(size=(400, 6)) * [5, 3, 1, 1, 1, 1]
    plane = latent_plane(some_sets(np.arange(400), {"rgb": np.ones(400)}, mean), None)
    _, values, axes = np.linalg.svd(mean - mean.mean(axis=0))
    expected = (mean - mean.mean(axis=0)) @ axes[:2].T
    found = np.stack([plane["pca"]["x"], plane["pca"]["y"]], 1)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(plane["pca"]["explained"], values[:2] ** 2 / (values**2).sum(), atol=1e-3)


def test_the_force_is_what_was_recorded_and_else_what_was_predicted(results):
    plane = latent_plane(results.sets, results.force)
    out = ~results.sets.present["force"]
    recorded = np.linalg.norm(results.sets.seen["force"][:, :3], axis=1)
    predicted = np.linalg.norm(results.sets.predicted["force"][:, :3], axis=1)
    np.testing.assert_allclose(plane["newtons"], np.where(out, predicted, recorded), atol=0.006)


def test_damage_and_faults_stand_on_top(tmp_path):
    extent = {"whole": False, "damage": ["bag.mcap: cut off after 31 MB"], "begin_ns": 1_700_000_000_000_000_000,
              "seconds": 2.4, "recorded_seconds": 60.0, "messages": 240}  # fmt: skip
    faults = [
        {"kind": "drop", "modality": "rgb", "start": 1.0, "end": 2.0},
        {"kind": "noise", "modality": "depth", "amount": 0.3},
        {"kind": "delay", "modality": "rgb", "amount": 0.08},
        {"kind": "scale", "modality": "depth", "amount": 1.03, "start": 3.0},
        {"kind": "swap", "modality": "rgb", "other": "bags/<monday>"},
    ]
    what_if = {"faults": faults}
    text = write_report(write_results(tmp_path, 60, 4, extent=extent, what_if=what_if)).read_text()
    head = text[: text.index("<main>")]
    for sentence in (
        "the 2.4 s of 1 min 00 s that could be read",
        "cut off after 31 MB",
        "rgb: taken away from 1 to 2 s",
        "depth: noise of 0.3",
        "rgb: delayed by 80 ms throughout",
        "depth: values times 1.03 from 3 s",
        "rgb: replaced by that of &lt;monday&gt;",
    ):
        assert sentence in head


def test_names_are_words_and_never_markup(tmp_path):
    text = write_report(write_results(tmp_path, 30, 2, bag="</script><b>x", warnings=["<i>w"])).read_text()
    assert "<b>x" not in text and "<i>w" not in text
    assert "&lt;/script&gt;&lt;b&gt;x" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", "{}"), ("sets.parquet", "no table"), ("pictures.npz", "no pictures"), ("timing.json", "[1")],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    write_results(tmp_path, 30, 2)
    (tmp_path / name).write_text(content)
    with pytest.raises(ReportError, match=name):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"summary\.json: cannot be read"):
        write_report(tmp_path)
    write_results(tmp_path, 30, 2)
    table = pq.read_table(tmp_path / "sets.parquet")
    pq.write_table(table.drop_columns(["wait_ns"]), tmp_path / "sets.parquet")
    with pytest.raises(ReportError, match=r"sets\.parquet: .*wait_ns"):
        write_report(tmp_path)


def test_several_bags_get_a_page_that_leads_to_each(opens, tmp_path, results):
    folder = tmp_path / "a bag"
    write_report(write_results(folder, 30, 2))
    evaluation: Evaluation = results.summary.evaluation
    bags = (
        BagResult(bag="a bag", folder="a bag", sets=30, evaluation=evaluation),
        BagResult(bag="bad", folder=None, error="bad: expected a bag, found <nothing>"),
    )
    what_if = WhatIf(faults=(Fault(kind="drop", modality="rgb", start=1.0, end=2.0),))
    summary = ReplaysSummary(checkpoint="mine.safetensors", what_if=what_if, bags=bags, sets=30, evaluation=evaluation)
    (tmp_path / "summary.json").write_text(summary.model_dump_json())
    opened = opens(write_index(tmp_path), ready="#bags-table")
    shown = opened.page.locator("body").inner_text()
    for words in ("found <nothing>", "judged with mine.safetensors", "rgb: taken away from 1 to 2 s"):
        assert words in shown
    assert opened.page.locator("#bags-table tbody tr").count() == 1
    assert opened.page.locator("#errors-table tbody tr").count() == 15
    opened.page.get_by_role("link", name="a bag").click()
    opened.page.wait_for_selector("html[data-ready]", state="attached")
    assert opened.errors == []
