"""Errors while sensors are off, against the same computed outage by outage."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from smvae_core import checkpoint
from smvae_core.cli.commands import app
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.data.sequences import runs_of
from smvae_core.evaluation.outages import outages, picture
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE

from ..conftest import write_logs
from ..training.test_loop import samples as samples  # the fixture: trajectories of 17 steps

SPACING, AGES = 0.5, (0.5, 1.5)
START, BETWEEN = 4, 5  # two seconds after the beginning, then every two and a half


def made(samples: Samples, memory: MemoryConfiguration | None) -> MultimodalVAE:
    torch.manual_seed(0)
    configuration = ModelConfiguration(size="tiny", latent=8, modalities=samples.modalities, memory=memory)
    return MultimodalVAE(configuration).eval()


@pytest.fixture(scope="module")
def model(samples) -> MultimodalVAE:
    return made(samples, MemoryConfiguration(size=16, spacing=SPACING))


@torch.no_grad()
def test_the_curves_are_those_of_stepping_through_each_outage(model, samples):
    mean = samples.mean()
    found = outages(model, samples, mean, ["rgb", "depth"], AGES)
    errors = {name: np.zeros((2, 4)) for name in ("with memory", "last value", "forecast", "trivial")}
    starts = 0
    for run in runs_of(samples):
        for start in range(START, len(run) - 3 + 1, BETWEEN):
            starts += 1
            state, elapsed = model.memory.start(1), torch.tensor([SPACING])
            for t in range(start):
                batch, available = samples.batch(run[t : t + 1])
                _, state = model.step(batch, available, state, elapsed)
            before, off = state, batch
            for step in (1, 2, 3):
                batch, available = samples.batch(run[start + step - 1 : start + step])
                posterior, state = model.step(
                    batch, available & torch.tensor([False, False, True, True]), state, elapsed
                )
                if step not in (1, 3):
                    continue
                forecast, _ = model.step({}, torch.zeros(1, 4, dtype=torch.bool), before, step * elapsed)
                for name, predicted in (
                    ("with memory", model.predict(posterior.mean)),
                    ("forecast", model.predict(forecast.mean)),
                    ("last value", off),
                    ("trivial", mean),
                ):
                    for m, modality in enumerate(model.names):
                        if available[0, m]:
                            error = (predicted[modality] - batch[modality]).square().mean()
                            errors[name][step // 2, m] += float(error)
    assert found.starts == starts > 4 and found.ages == AGES and found.off == ("rgb", "depth")
    for name in ("with memory", "forecast", "last value"):
        for m, modality in enumerate(model.names):
            expected = errors[name][:, m] / errors["trivial"][:, m]
            np.testing.assert_allclose(found.of(name).nmse[modality], expected, rtol=1e-3)
    for m, modality in enumerate(model.names):
        better = errors["forecast"][:, m] < errors["trivial"][:, m]
        expected = 0.0 if not better[0] else AGES[0] if not better[1] else AGES[1]
        assert found.forecast_beats_mean[modality] == expected
    assert all(z2 > 0 for z2 in found.of("with memory").z2) and found.of("last value").z2 is None


def test_a_model_without_memory_has_the_curves_that_need_none(samples, tmp_path):
    model = made(samples, None)
    found = outages(model, samples, samples.mean(), ages=AGES, spacing=SPACING)
    assert {curve.prediction for curve in found.curves} == {
        "without memory",
        "without memory, nothing off",
        "last value",
    } and found.off == ("rgb", "depth")
    assert found.forecast_beats_mean == {} and found.score > 0
    picture(found, tmp_path / "outages.png")
    assert (tmp_path / "outages.png").read_bytes().startswith(b"\x89PNG")


def test_intervals_hold_on_trajectories_like_those_that_they_were_fitted_on(model, samples):
    first = max(runs_of(samples), key=len)
    copies = samples.select(np.tile(first, 4))
    copies = dataclasses.replace(
        copies, trajectory=np.repeat(np.arange(4), len(first)), names=tuple(f"copy {i}" for i in range(4))
    )
    found = outages(model, copies, samples.mean(), ["rgb"], AGES, intervals=True)
    for prediction in ("with memory", "without memory", "forecast"):
        shares = found.of(prediction).coverage
        assert {"rgb", "depth", "action"} <= set(shares)
        for name in ("rgb", "depth"):
            for half, most in shares[name]:
                assert half == pytest.approx(0.5, abs=0.1) and most == pytest.approx(0.9, abs=0.07)
    assert found.of("last value").coverage == {} and found.healthy.coverage == {}


def test_logs_that_are_too_short_and_unknown_modalities_are_one_sentence(model, samples):
    with pytest.raises(LogError, match="expected a trajectory of at least 24 steps without a gap, 12 s, found none"):
        outages(model, samples, samples.mean(), ages=(10.0,))
    with pytest.raises(LogError, match="expected modalities among rgb, depth, force, action, found sound"):
        outages(model, samples, samples.mean(), ["sound"])


def test_the_command_shows_the_curves_and_writes_them(model, samples, tmp_path: Path):
    logs = write_logs(tmp_path / "logs")
    checkpoint.save(tmp_path / "model.safetensors", model, samples.mean(), None, None)
    # The logs have 17 steps: at a spacing of 0.5 s the longest age, 5 s, is just within.
    arguments = ["evaluate", tmp_path / "model.safetensors", "--data", logs, "--off", "rgb", "--out", tmp_path / "out"]
    shown = CliRunner().invoke(app, [*map(str, arguments), "--outages"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "NMSE while rgb is off" in shown.output and "forecast" in shown.output and "rgb, inside" in shown.output
    found = json.loads((tmp_path / "out" / "outages.json").read_text())
    assert found["off"] == ["rgb"] and len(found["curves"]) == 6
    assert (tmp_path / "out" / "outages.png").exists()
