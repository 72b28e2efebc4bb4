"""The objective of sequences, against the same computed sample by sample; and what a run keeps of memory."""

from pathlib import Path

import lightning_fabric
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from smvae_core.configuration import Configuration, changed
from smvae_core.data.corruption import Corrupted
from smvae_core.data.samples import Samples
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.memory import MemoryConfiguration, MemoryState, Remembered
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import Posterior, gaussian_kl
from smvae_core.systems.smvae import SYSTEM, SMVAESettings
from smvae_core.training.interruption import Interruption
from smvae_core.training.lanes import Window
from smvae_core.training.loop import Loop
from smvae_core.training.objective import Objective
from smvae_core.training.run import TrainingError
from smvae_core.training.train import Job, train

from ..conftest import SMALL
from ..robot_data import write_lerobot_3
from .test_loop import samples as samples  # the fixture

LANES, LENGTH = 2, 3
ROWS, LATENT = LANES * LENGTH, 8
SETTINGS = SMVAESettings(subset_kl=1.5, full_kl=0.2, subset_likelihood=0.4)
BETA = 0.7


@pytest.fixture(params=["smvae", "mvae", "crmvae"])
def model(request) -> MultimodalVAE:
    torch.manual_seed(0)
    memory = MemoryConfiguration(size=16)
    return MultimodalVAE(ModelConfiguration(system=request.param, size="tiny", latent=LATENT, memory=memory)).eval()


@pytest.fixture
def smvae() -> MultimodalVAE:
    torch.manual_seed(0)
    memory = MemoryConfiguration(size=16)
    return MultimodalVAE(ModelConfiguration(size="tiny", latent=LATENT, memory=memory)).eval()


def window_of(model: MultimodalVAE) -> Window:
    """Two lanes: one goes on from before, the other starts anew in its middle; one sample does without memory."""
    random = torch.Generator().manual_seed(5)
    hidden = torch.rand(LANES, 16, generator=random) - 0.5
    elapsed = torch.tensor([[0.05, 0.1, 0.2], [0.05, float("inf"), 0.05]])
    given = torch.rand(LANES, LENGTH, 4, generator=random) < 0.6
    remembered = torch.tensor([[True, True, False], [True, False, True]])
    earlier = torch.tensor([[0, 0, 1], [0, 0, 2]])
    since = torch.tensor([[0.05, 0.15, 0.3], [0.05, float("inf"), 0.05]])
    state = MemoryState(hidden, torch.tensor([True, True]))
    return Window(state, elapsed, given, remembered.flatten(), (earlier, since))


def drawn(model: MultimodalVAE, window: Window, settings: object) -> Draws:
    available, random = torch.ones(ROWS, 4, dtype=torch.bool), torch.Generator().manual_seed(1)
    draws = model.system.draw(settings, available, LATENT, model.names, random)
    return model.system.memory(settings, draws, window.remembered, window.given.flatten(0, 1), random)


def stepped(model: MultimodalVAE, batch: Batch, window: Window) -> tuple[Tensor, MemoryState]:
    """Memory's embedding before each sample, one lane and one sample after the other, and the states at the end."""
    slots, ends = [], []
    for lane in range(LANES):
        state = MemoryState(*(x[lane : lane + 1] for x in window.state))
        for t in range(LENGTH):
            row = slice(lane * LENGTH + t, lane * LENGTH + t + 1)
            elapsed = window.elapsed[lane, t : t + 1]
            slots.append(model.memory.embed(state, elapsed))
            one = {name: x[row] for name, x in batch.items()}
            _, state = model.step(one, window.given[lane, t : t + 1], state, elapsed)
        ends.append(state)
    return torch.cat(slots), MemoryState(*(torch.cat(x) for x in zip(*ends)))


def test_a_window_is_the_same_as_sample_after_sample(model, batch):
    objective = Objective(model, SETTINGS if model.configuration.system == "smvae" else model.system.settings())
    window = window_of(model)
    bound = objective(batch, drawn(model, window, objective.settings), BETA, window=window)
    _, ends = stepped(model, batch, window)
    torch.testing.assert_close(bound.state.hidden, ends.hidden, rtol=0, atol=1e-5)
    assert torch.equal(bound.state.present, ends.present)
    assert not bound.state.hidden.requires_grad
    assert bound.loss.isfinite()
    bound.loss.backward()
    for name, parameter in model.memory.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_bound_with_memory_by_hand(smvae, batch):
    """A degraded, corrupted past; a clean present; the forecast in place of the prior where there is memory."""
    window = window_of(smvae)
    draws = drawn(smvae, window, SETTINGS)
    bad = {name: x.clone() for name, x in batch.items()}
    changed_ = torch.zeros(ROWS, 4, dtype=torch.bool)
    for row, column in ((0, 0), (2, 1), (4, 3)):
        bad[smvae.names[column]][row] = 0.0
        changed_[row, column] = True
    found = Objective(smvae, SETTINGS)(batch, draws, BETA, 1.0, Corrupted(bad, changed_), window)

    slots, _ = stepped(smvae, bad, window)
    everything = torch.ones(ROWS, 4, dtype=torch.bool)
    clean, corrupted = smvae.embed(batch, everything), smvae.embed(bad, everything)
    full = smvae.fuse(clean, everything, Remembered(slots, window.remembered))
    subset, with_memory = draws.subsets[1, :, :4], draws.subsets[1, :, 4]
    part = smvae.fuse(corrupted, subset, Remembered(slots, with_memory))
    forecast = smvae.fuse(clean, torch.zeros_like(everything), Remembered(slots, window.remembered))
    reference = torch.where(window.remembered, gaussian_kl(full, forecast), full.kl_to_prior())
    # The value of both KLs is that of one; only their gradients differ.
    cost = BETA * reference + (1.5 + 0.2) * gaussian_kl(full, part)
    explained = torch.zeros(ROWS)
    for z, weight in ((full.sample(draws.noise[0]), 1.0), (part.sample(draws.noise[1]), 0.4)):
        for name, parameters in smvae.decode(z).items():
            explained += weight * log_likelihood(smvae.modalities[name], batch[name], parameters)
    torch.testing.assert_close(found.loss, (cost - explained).mean(), rtol=1e-5, atol=1e-2)


def test_at_the_start_of_the_ramp_the_forecast_learns_and_the_posterior_keeps_to_the_prior(smvae, batch):
    window = window_of(smvae)
    settings = SMVAESettings(subset_likelihood=0.0)
    draws = drawn(smvae, window, settings)
    bound = Objective(smvae, settings)(batch, draws, BETA, 0.0, None, window)
    embeddings = smvae.embed(batch, draws.targets[0])
    full = smvae.fuse(embeddings, draws.targets[0], Remembered(stepped(smvae, batch, window)[0], window.remembered))
    explained = sum(
        log_likelihood(smvae.modalities[n], batch[n], x) for n, x in smvae.decode(full.sample(draws.noise[0])).items()
    )
    rest = float((bound.loss + explained.mean()) / BETA)
    forecast = smvae.fuse(
        embeddings,
        torch.zeros_like(draws.targets[0]),
        Remembered(stepped(smvae, batch, window)[0], window.remembered),
    )
    learning = torch.where(window.remembered, gaussian_kl(full, forecast), torch.zeros(ROWS))
    assert rest == pytest.approx(float((full.kl_to_prior() + learning).mean()), rel=1e-3, abs=0.05)


def test_memory_is_alone_often_enough_and_never_where_it_is_absent():
    rows = 4000
    random = torch.Generator().manual_seed(0)
    available = torch.ones(rows, 4, dtype=torch.bool)
    remembered = torch.rand(rows, generator=random) < 0.8
    degraded = torch.rand(rows, 4, generator=random) < 0.3
    draws = SYSTEM.draw(SETTINGS, available, LATENT, ("a", "b", "c", "d"), random)
    draws = SYSTEM.memory(SETTINGS, draws, remembered, degraded, random)
    assert torch.equal(draws.subsets[0], torch.cat([available, remembered[:, None]], dim=1))
    subset, memory = draws.subsets[1, :, :4], draws.subsets[1, :, 4]
    assert not (memory & ~remembered).any()
    alone = memory & ~subset.any(dim=1)
    assert 0.15 < alone.float().sum() / remembered.float().sum() < 0.4
    assert draws.subsets[1].any(dim=1).all()
    assert (subset == degraded).all(dim=1).float().mean() > 0.35
    assert torch.equal(draws.targets, available.expand(2, -1, -1))


def test_what_is_explained_is_clean_and_whole_whatever_memory_saw(smvae, batch):
    """Blind, memory alone: all of X is explained."""
    window = window_of(smvae)
    draws = drawn(smvae, window, SETTINGS)
    assert draws.targets.all() and draws.subsets.shape == (2, ROWS, 5)


MEMORY = changed(
    Configuration(),
    {
        "model": {"size": "tiny", "latent": LATENT, "memory": {"size": 16}, "modalities": SMALL},
        "sequences": {"length": 4, "between_outages": 0.2},
        "training": {"batch_size": 12, "epochs": 2},
    },
)


def made(samples: Samples, static: bool | None = None, **sequences) -> Loop:
    torch.manual_seed(0)
    configuration = changed(MEMORY, {"sequences": sequences})
    model = MultimodalVAE(configuration.model.model_copy(update={"modalities": samples.modalities}))
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    return Loop(configuration, model, samples, fabric, Interruption(), Console(quiet=True), static)


def steps(loop: Loop, count: int) -> None:
    rows = loop.lanes.order(loop.epoch)
    loop.lanes.prepare(loop.epoch)
    if loop.learning == "memory":
        loop.teacher.prepare(loop.console)
    for step in range(loop.step, loop.step + count):
        loop.train_step(rows[step], loop.lanes.part, *loop.loader.batch(rows[step]))


def test_a_run_that_was_stopped_inside_an_epoch_remembers_what_it_knew(samples):
    straight, stopped = made(samples), made(samples)
    steps(straight, 4)
    steps(stopped, 2)
    saved = {name: x.clone() for name, x in stopped.tensors().items()}
    resumed = made(samples)
    resumed.restore(saved)
    resumed.step = 2
    steps(resumed, 2)
    for name, x in straight.tensors().items():
        assert torch.equal(x, resumed.tensors()[name]), name
    assert "lanes.hidden" in saved and saved["lanes.hidden"].abs().max() > 0


def test_an_epoch_trains_memory_and_ends(samples):
    loop = made(samples)
    before = {name: x.clone() for name, x in loop.model.memory.named_parameters()}
    for _ in loop.run_epoch():
        pass
    figures = loop.finish_epoch()
    assert np.isfinite(figures["loss"]) and loop.epoch == 1
    assert all(not torch.equal(before[name], x) for name, x in loop.model.memory.named_parameters())


def job(tmp_path: Path, data: Path, configuration: Configuration) -> Job:
    return Job(data, tmp_path / "run", configuration, "smvae train", device="cpu")


def test_a_spacing_that_is_not_that_of_the_data_is_refused(tmp_path):
    data = write_lerobot_3(tmp_path / "data")
    with pytest.raises(TrainingError, match=r"expected 0.1, since .* has 10 steps a second, found 0.05"):
        train(job(tmp_path, data, changed(MEMORY, {"data": {"format": "lerobot"}})), Console(quiet=True))


def test_the_posterior_of_a_static_set_is_trained_too(smvae, batch):
    """Windows without memory: the bound is that of a model of single sets."""
    window = window_of(smvae)
    window.remembered = torch.zeros(ROWS, dtype=torch.bool)
    draws = drawn(smvae, window, SETTINGS)
    with_window = Objective(smvae, SETTINGS)(batch, draws, BETA, 1.0, None, window)
    torch.manual_seed(0)
    alone = MultimodalVAE(ModelConfiguration(size="tiny", latent=LATENT)).eval()
    alone.load_state_dict({name: x for name, x in smvae.state_dict().items() if not name.startswith("memory")})
    single = Draws(draws.subsets[:, :, :4], draws.targets, draws.explains, draws.noise, draws.clean)
    expected = Objective(alone, SETTINGS)(batch, single, BETA)
    torch.testing.assert_close(with_window.loss, expected.loss)


def test_posterior_type_is_plain(smvae, batch):
    assert type(smvae.posterior(batch, torch.ones(ROWS, 4, dtype=torch.bool))) is Posterior
