"""`smvae trust` adds trust to a finished checkpoint and changes nothing else."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from smvae_core.checkpoint import Checkpoint, TrainingRecord, load, save
from smvae_core.cli.commands import app
from smvae_core.configuration import Configuration
from smvae_core.evaluation import trust_figures
from smvae_core.inference.trust import Trust
from smvae_core.modality import vision_touch_modalities
from smvae_core.model.traits import traits_of
from smvae_core.model.trust import Moment
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.training import trust as training
from smvae_core.training.faulty_episodes import altered

HELD_OUT = ("triangle_0_journal_2", "triangle_0_journal_3")


@pytest.fixture
def untold(tmp_path: Path, model: MultimodalVAE) -> Path:
    """A checkpoint without trust, as of a training that held out two trajectories."""
    record = TrainingRecord(
        data="", commands=(), configuration=Configuration(), epochs=1, samples=34, held_out=HELD_OUT
    )
    save(tmp_path / "model.safetensors", model, {}, record, None)
    return tmp_path / "model.safetensors"


def test_a_finished_model_learns_trust_and_stays_as_it_is(
    untold: Path, shared_logs: Path, monkeypatch: pytest.MonkeyPatch, batch: Batch
) -> None:
    monkeypatch.setattr(training, "fit_trust", partial(training.fit_trust, steps=20))
    monkeypatch.setattr(training, "_EPISODES", {True: 6, False: 6})
    monkeypatch.setattr(trust_figures, "judge_trust", partial(trust_figures.judge_trust, episodes=4))
    before = load(untold)
    assert before.trust is None and before.metadata.trust is None
    done = CliRunner().invoke(app, ["trust", str(untold), "--data", str(shared_logs)])
    assert done.exit_code == 0, done.output
    assert "trust calibrated on 17 sets of 1 trajectories" in " ".join(done.output.split())
    after = load(untold)
    assert after.metadata.trust is not None and after.metadata.trust.calibrated_on[0] in HELD_OUT
    assert after.metadata.model_copy(update={"trust": None, "training": before.metadata.training}) == before.metadata
    assert after.metadata.training is not None and len(after.metadata.training.commands) == 1, "the recipe names it"
    figures = after.metadata.trust.figures
    assert figures is not None and set(figures.tested_on) == set(HELD_OUT) - set(after.metadata.trust.calibrated_on)
    assert figures.minutes == pytest.approx(17 * 0.05 / 60) and figures.alarms == 0
    assert set(figures.noticed) == set(figures.blamed) == set(after.model.names)
    old, new = before.model.state_dict(), after.model.state_dict()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    again = _learn_again(untold, shared_logs)
    assert again.trust is not None and after.trust is not None
    assert all(torch.equal(x, y) for x, y in zip(after.trust.parameters(), again.trust.parameters()))
    assert again.metadata.trust == after.metadata.trust

    mask = torch.ones(1, 4, dtype=torch.bool)
    with torch.inference_mode():
        embeddings = after.model.embed({name: x[:1] for name, x in batch.items()}, mask)
    traits = traits_of(after.model.configuration.modalities, {name: x[:1] for name, x in batch.items()}, 1)
    trust = Trust(after.model.fusion, after.trust, after.metadata.trust, after.model.names)
    _, verdict = trust.step(trust.start(), Moment(embeddings, mask, traits), 0.0)
    assert set(verdict.trust) == set(after.model.names)
    assert all(0.0 <= value <= 1.0 for value in (*verdict.trust.values(), *verdict.surprise.values()))
    described = CliRunner().invoke(app, ["info", str(untold)])
    assert "trust: calibrated on 17 sets" in " ".join(described.output.split())
    assert "the right one blamed" in described.output


def _learn_again(path: Path, logs: Path) -> Checkpoint:
    done = CliRunner().invoke(app, ["trust", str(path), "--data", str(logs)])
    assert done.exit_code == 0, done.output
    return load(path)


def test_faults_of_every_kind_have_the_shape_and_are_finite() -> None:
    random = np.random.default_rng(0)
    for modality in vision_touch_modalities():
        healthy = random.random((5, *modality.shape), np.float32)
        before = healthy.copy()
        for _ in range(60):
            changed = altered(modality, healthy, random)
            assert changed.shape == healthy.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
        assert np.array_equal(healthy, before)
