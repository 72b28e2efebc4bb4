"""Figures of a model: likelihoods, probes, robustness, baselines, on samples some of which lack a modality."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from smvae_core.checkpoint import Checkpoint, Metadata
from smvae_core.cli.tables import baseline_table, probe_table, robustness_table
from smvae_core.data.cache import cache_folder, cached_samples
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.samples import Samples, fitted, read_samples
from smvae_core.data.splits import split_by_trajectory
from smvae_core.evaluation.judgement import baselines_of, judge
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.evaluation.probes import Probe, posterior_means
from smvae_core.evaluation.robustness import LEVELS, robustness
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.model.likelihood import log_likelihood
from smvae_core.preprocessing import Vector
from smvae_core.subsets import all_subsets

from ..conftest import write_log

NAMES = ("rgb", "depth", "force", "action")


@pytest.fixture(scope="module")
def samples(shared_logs) -> Samples:
    found = read_samples(find_trajectories(shared_logs), vision_touch_modalities())
    return Samples(**{**vars(found), "modalities": fitted(found)})


@pytest.fixture
def few_levels(monkeypatch) -> None:
    """Spoil modalities to the levels of the table alone, for tests of other figures."""
    monkeypatch.setattr("smvae_core.evaluation.robustness.LEVELS", (0.0, 0.3, 0.6, 0.9))


@pytest.fixture
def loaded(model, samples) -> Checkpoint:
    metadata = Metadata(format=1, package_version="0", model=model.configuration)
    return Checkpoint(model, samples.mean(), metadata)


def test_the_errors_are_those_of_predicting_by_hand(model, samples):
    batch, available = samples.batch(np.arange(len(samples)))
    row = evaluate(model, samples, samples.mean(), [("rgb", "force")]).of("force", "rgb")
    mask = available & torch.tensor([True, False, True, False])
    with torch.no_grad():
        predicted = model.predict(model.posterior(batch, mask).mean)
    here = available[:, 3]
    assert row.mse["depth"] == pytest.approx(float((predicted["depth"] - batch["depth"]).square().mean()), rel=1e-4)
    error = (predicted["action"] - batch["action"])[here].square()
    trivial = (samples.mean()["action"] - batch["action"])[here].square()
    assert row.nmse["action"] == pytest.approx(float(error.mean() / trivial.mean()), rel=1e-4)
    assert row.samples == len(samples) and row.log_likelihood == {}


def test_the_log_likelihood_of_one_draw_is_that_of_a_sample_of_the_posterior(model, samples):
    few = samples.select(np.arange(10))
    row = evaluate(model, few, samples.mean(), [("rgb", "depth")], draws=1).of("rgb", "depth")
    batch, available = few.batch(np.arange(10))
    noise = torch.randn(1, 10, 64, generator=torch.Generator().manual_seed(0))[0]
    with torch.no_grad():
        z = model.posterior(batch, available & torch.tensor([True, True, False, False])).sample(noise)
        expected = log_likelihood(model.modalities["force"], batch["force"], model.decode(z)["force"]).mean()
    assert row.log_likelihood["force"] == pytest.approx(float(expected), rel=1e-4)


def test_more_draws_never_lower_the_estimate_by_much(model, samples):
    one, many = (evaluate(model, samples, samples.mean(), [NAMES], draws=n).of(*NAMES) for n in (1, 16))
    assert all(many.log_likelihood[name] >= one.log_likelihood[name] - 0.5 for name in NAMES)


@pytest.mark.usefixtures("few_levels")
def test_a_modality_that_no_log_has_gets_no_figure(model, tmp_path):
    write_log(tmp_path / "log.h5", 6, depth_data=None)
    found = read_samples(find_trajectories(tmp_path), vision_touch_modalities())
    evaluation = evaluate(model, found, found.mean())
    assert set(evaluation.of("rgb").nmse) == {"rgb", "force", "action"}
    assert evaluation.of("depth").samples == 0 and evaluation.of("depth").nmse == {}
    metadata = Metadata(format=1, package_version="0", model=model.configuration)
    table = baseline_table(judge(Checkpoint(model, found.mean(), metadata), found, None, ("a", "b"), None, 1))
    assert all("–" not in column._cells[0] for column in table.columns)


@pytest.mark.usefixtures("few_levels")
def test_a_modality_that_never_differs_from_its_mean_has_no_nmse(model, tmp_path):
    for number in range(3):
        write_log(tmp_path / f"log_{number}.h5", 6, seed=number, action=np.zeros((6, 4)))
    found = read_samples(find_trajectories(tmp_path), vision_touch_modalities())
    found = Samples(**{**vars(found), "modalities": fitted(found)})
    metadata = Metadata(format=1, package_version="0", model=model.configuration)
    judged = judge(Checkpoint(model, found.mean(), metadata), found, None, ("a", "b"), None, 1)
    row = judged.evaluation.of("action")
    assert "action" in row.mse and "action" not in row.nmse and "action" in row.log_likelihood
    assert baseline_table(judged).row_count == 2 and robustness_table(judged).row_count == 12


@pytest.mark.usefixtures("few_levels")
def test_what_needs_no_learning_is_judged_on_the_samples_of_the_probes(loaded, samples):
    judged = judge(loaded, samples, None, ("a", "b"), None, 1)
    _, probed = split_by_trajectory(samples, 0.3, seed=0)
    assert judged.probes[0].samples == int(probed.available.all(axis=1).sum())
    assert judged.baselines == baselines_of(samples, probed, loaded, None)
    every = probed.pose[~np.isnan(probed.pose).any(axis=1)]
    assert judged.baselines.pose_mean == pytest.approx(float(every.var(axis=0).mean()), rel=1e-4)


def test_a_sense_may_be_called_as_a_label_is(tmp_path):
    write_log(tmp_path / "log.h5", 6)
    pose = Modality(name="pose", source="proprio", preprocessing=Vector(size=8), network="vector", likelihood="normal")
    for found in (
        read_samples(find_trajectories(tmp_path), [pose]),
        cached_samples(find_trajectories(tmp_path), [pose], cache_folder(tmp_path, [pose], None)).samples,
    ):
        assert found.arrays["pose"].shape == (6, 8) and found.pose.shape == (6, 4)
        np.testing.assert_array_equal(found.pose[:-1], found.arrays["pose"][1:, :4])


def test_probes_find_what_is_linear_in_the_latent():
    random = np.random.default_rng(0)
    means = random.normal(size=(400, 8)).astype(np.float32)
    contact = (means @ random.normal(size=8) > 0).astype(np.float32)
    pose = (means @ random.normal(size=(8, 4))).astype(np.float32)
    contact[::10], pose[::7] = np.nan, np.nan
    scores = Probe(means[:300], contact[:300], pose[:300]).scores(NAMES, means[300:], contact[300:], pose[300:])
    assert scores.contact_accuracy > 0.95 and scores.pose_mse < 1e-3 and scores.samples == 100
    assert 0.0 < scores.position_mse < 1e-3


def test_a_probe_without_labels_says_nothing():
    means, none = np.zeros((5, 8), np.float32), np.full(5, np.nan, np.float32)
    scores = Probe(means, none, np.full((5, 4), np.nan)).scores(NAMES, means, none, np.full((5, 4), np.nan))
    assert scores.contact_accuracy is None and scores.pose_mse is None and scores.position_mse is None


def test_robustness_begins_unspoiled_and_a_missing_sense_is_as_if_it_were_not_there(model, samples):
    samples = samples.select(np.flatnonzero(samples.available.all(axis=1))[::3])
    points = {(p.modality, p.kind, p.level): p for p in robustness(model, samples, samples.mean(), None)}
    assert len(points) == 4 * 3 * len(LEVELS)
    clean = evaluate(model, samples, samples.mean(), [NAMES]).subsets[0]
    for name in NAMES:
        for kind in ("noise", "drop", "missing"):
            assert points[name, kind, 0.0].nmse == points["rgb", "noise", 0.0].nmse
            assert points[name, kind, 0.9].nmse != points[name, kind, 0.0].nmse, (name, kind)
    assert points["rgb", "noise", 0.0].nmse["rgb"] == pytest.approx(clean.nmse["rgb"], rel=1e-4)


def test_posterior_means_are_those_of_the_model(model, samples):
    index = np.array([3, 16, 20])
    means = posterior_means(model, samples, all_subsets(NAMES), index)
    batch, available = samples.batch(index)
    with torch.no_grad():
        expected = model.posterior(batch, available & torch.tensor([False, False, True, True])).mean
    np.testing.assert_allclose(means[all_subsets(NAMES).index(("force", "action"))], expected, atol=1e-5)


def test_baselines_need_no_model(loaded, samples):
    baselines = baselines_of(samples, samples, loaded, None)
    batch, available = samples.batch(np.arange(17))
    moved = (batch["depth"][1:] - batch["depth"][:-1]).square().mean(dim=(1, 2, 3))
    everywhere = [samples.batch(np.flatnonzero(samples.trajectory == t))[0]["depth"] for t in range(4)]
    expected = torch.cat([(d[1:] - d[:-1]).square().mean(dim=(1, 2, 3)) for d in everywhere])
    assert torch.equal(expected[:16], moved)
    assert baselines.previous["depth"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert 0.5 <= baselines.contact_majority <= 1.0
    pose = samples.pose[samples.trajectory == 0][:16]
    assert baselines.pose_previous is not None and baselines.pose_previous > 0.1 * float(np.square(pose).mean())
    every = samples.pose[~np.isnan(samples.pose).any(axis=1), :3]
    assert baselines.position_mean == pytest.approx(float(every.var(axis=0).mean()), rel=1e-4)


@pytest.mark.usefixtures("few_levels")
def test_one_trajectory_is_judged_without_probes(loaded, samples):
    alone = samples.select(np.flatnonzero(samples.trajectory == 0))
    found = judge(loaded, alone, None, ("a", "b"), 5, 1)
    assert found.probes == () and found.robustness[0].contact_accuracy is None
    assert found.evaluation.samples == 5


@pytest.mark.usefixtures("few_levels")
def test_the_table_of_probes_has_only_labels_that_the_data_have(loaded, samples):
    judged = judge(loaded, samples, None, ("a", "b"), 5, 1)
    table = probe_table(judged)
    assert table is not None and len(table.columns) == 4
    unknown = {"contact": np.full_like(samples.contact, np.nan), "pose": np.full_like(samples.pose, np.nan)}
    without_contact = replace(samples, contact=unknown["contact"])
    table = probe_table(judge(loaded, without_contact, None, ("a", "b"), 5, 1))
    assert table is not None and "contact accuracy" not in [column.header for column in table.columns]
    assert probe_table(judge(loaded, replace(samples, **unknown), None, ("a", "b"), 5, 1)) is None
