"""Epochs in which a part learns: memory from what a finished model says of every sample, then the decoders."""

import lightning_fabric
import numpy as np
import pytest
import torch
from rich.console import Console

from smvae_core.configuration import Configuration, changed
from smvae_core.data.corruption import CorruptionConfiguration, Probabilities
from smvae_core.errors import ConfigurationError
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.memory import MemoryState, Remembered
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.systems.posterior import gaussian_kl
from smvae_core.training.interruption import Interruption
from smvae_core.training.lanes import Window
from smvae_core.training.lessons import Lesson, Teacher
from smvae_core.training.loop import Loop
from smvae_core.training.objective import Objective
from smvae_core.training.run import TrainingError
from smvae_core.training.static_step import StaticSteps
from smvae_core.training.train import train

from ..conftest import SMALL
from .test_loop import Rerun
from .test_loop import samples as samples  # the fixture
from .test_memory_training import BETA, LANES, LENGTH, MEMORY, ROWS, drawn, job, made, stepped, steps, window_of
from .test_memory_training import model as model  # the fixture


def before_each(model: MultimodalVAE, batch: Batch, window: Window) -> MemoryState:
    """The states before each sample, (B·T)."""
    states = []
    for lane in range(LANES):
        state = MemoryState(*(x[lane : lane + 1] for x in window.state))
        for t in range(LENGTH):
            states.append(state)
            row = slice(lane * LENGTH + t, lane * LENGTH + t + 1)
            one = {name: x[row] for name, x in batch.items()}
            _, state = model.step(one, window.given[lane, t : t + 1], state, window.elapsed[lane, t : t + 1])
    return MemoryState(*(torch.cat(x) for x in zip(*states)))


def test_latent_epochs_leave_embeddings_and_decoders_as_they_are(samples):
    loop = made(samples, latent_epochs=1)
    before = {name: x.clone() for name, x in loop.model.state_dict().items()}
    for _ in loop.run_epoch():
        pass
    figures = loop.finish_epoch()
    assert np.isfinite(figures["loss"]) and not any(name.startswith("log p") for name in figures)
    learned = {name for name, x in loop.model.state_dict().items() if not torch.equal(before[name], x)}
    assert learned == {name for name in before if name.startswith(("memory.", "fusion."))}
    for _ in loop.run_epoch():
        pass
    assert "log p(rgb)" in loop.finish_epoch()
    later = loop.model.state_dict()
    assert not torch.equal(before["decoders.rgb.0.weight"], later["decoders.rgb.0.weight"])


def test_a_run_that_was_stopped_goes_on_with_the_same_teacher(samples):
    straight, stopped, resumed = (made(samples, latent_epochs=1) for _ in range(3))
    steps(straight, 4)
    steps(stopped, 2)
    for parameter in resumed.model.parameters():
        parameter.data.add_(1.0)
    resumed.restore({name: x.clone() for name, x in stopped.tensors().items()})
    resumed.step = 2
    steps(resumed, 2)
    for name, x in straight.tensors().items():
        assert torch.equal(x, resumed.tensors()[name]), name


def test_latent_epochs_have_steps_and_a_learning_rate_of_their_own(samples):
    own = {"latent_epochs": 2, "latent_batch_size": 24, "latent_learning_rate": 0.01}
    loop = made(samples, **own)
    others = made(samples).steps
    assert loop.learning == "memory" and loop.steps < others and loop.learning_rate(0.0) == 0.01
    for _ in range(2):
        for _ in loop.run_epoch():
            pass
        loop.finish_epoch()
    assert loop.learning == "everything" and loop.steps == others
    assert loop.learning_rate(2.0) == loop.configuration.training.learning_rate
    # Saved between the two, with the lanes of before.
    resumed = made(samples, **own)
    resumed.restore({name: x.clone() for name, x in loop.tensors().items()})
    resumed.epoch = 2
    for each in (loop, resumed):
        steps(each, 2)
    for name, x in loop.tensors().items():
        assert torch.equal(x, resumed.tensors()[name]), name


def test_a_corrupted_lesson_is_the_embedding_of_something_else_and_the_target_is_clean(samples):
    loop = made(samples, latent_epochs=1)
    corruption = CorruptionConfiguration(images=Probabilities(blank=0.5), numbers=Probabilities(another=0.25))
    teacher = Teacher(loop.loader, loop.model.eval(), corruption, 0)
    teacher.prepare(loop.console)
    rows = np.arange(min(len(samples), 200))
    lesson = teacher.lesson(rows, torch.Generator().manual_seed(0), slice(None))
    batch, available = samples.batch(rows)
    embeddings = loop.model.embed(batch, available)
    torch.testing.assert_close(lesson.clean, embeddings, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(lesson.target.mean, loop.model.fuse(lesson.clean, available).mean)
    blank = loop.model.embed({name: torch.zeros_like(x) for name, x in batch.items()}, available)
    changed_ = (lesson.seen != lesson.clean).any(dim=2)
    column = loop.model.names.index("rgb")
    here = changed_[:, column]
    torch.testing.assert_close(lesson.seen[here, column], blank[here, column], rtol=2e-3, atol=2e-3)
    share = here.sum() / available[:, column].sum()
    assert 0.35 < share < 0.65
    assert not changed_[~available].any()


def test_what_is_learned_from_the_teacher_by_hand(model, batch):
    window = window_of(model)
    objective = Objective(model, model.system.settings())
    draws = drawn(model, window, objective.settings)
    everything = torch.ones(ROWS, 4, dtype=torch.bool)
    embeddings = model.embed(batch, everything)
    target = model.fuse(embeddings, everything)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(0.01)
    found = objective({}, draws, BETA, window=window, lesson=Lesson(embeddings, embeddings, target))
    remembered = Remembered(stepped(model, batch, window)[0], window.remembered)
    part, nothing = draws.subsets[-1, :, :4], torch.zeros_like(everything)
    sets = (nothing, everything, window.given.flatten(0, 1), part)
    kl = sum(gaussian_kl(target, model.fuse(embeddings, mask, remembered)) for mask in sets)
    # The state of the sample that is named, aged by all that passed since.
    states = before_each(model, batch, window)
    named = [lane * LENGTH + int(t) for lane in range(LANES) for t in window.earlier[0][lane]]
    old = model.memory.recall(MemoryState(*(x[named] for x in states)), window.earlier[1].flatten())
    assert old.present.tolist() == [True, True, True, True, False, True]
    kl = kl + torch.where(old.present, gaussian_kl(target, model.fuse(embeddings, nothing, old)), 0.0)
    kl = torch.where(window.remembered, kl, 0.0)
    single = sum(gaussian_kl(target, model.fuse(embeddings, mask)) for mask in (everything, part))
    expected = kl + torch.where(part.any(dim=1), single, 0.0)
    torch.testing.assert_close(found.loss, expected.mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("named", "learn"), [((), ("rgb", "depth", "force", "action")), (("action",), ("action",))])
def test_in_decoder_epochs_the_decoders_alone_learn(samples, named, learn):
    loop = made(samples, latent_epochs=1, decoder_epochs=1, decoder_learning_rate=0.01, decoders=named)
    for _ in loop.run_epoch():
        pass
    loop.finish_epoch()
    assert loop.learning == "decoders" and loop.learning_rate(1.0) == 0.01
    before = {name: x.clone() for name, x in loop.model.state_dict().items()}
    for _ in loop.run_epoch():
        pass
    means = loop.finish_epoch()
    assert {name for name in loop.model.names if f"log p({name})" in means} == set(learn)
    assert loop.learning == "everything"
    learned = {name for name, x in loop.model.state_dict().items() if not torch.equal(before[name], x)}
    assert learned == {name for name in before if name.startswith(tuple(f"decoders.{m}." for m in learn))}


@pytest.mark.parametrize(
    ("sequences", "sentence"),
    [
        ({"decoder_epochs": 1, "decoders": ["torque"]}, r"expected modalities among .*, found \['torque'\]"),
        (
            {"decoders": ["action"]},
            "expected sequences.decoders none .*found action",
        ),
    ],
)
def test_decoders_that_are_unknown_or_never_learn_alone_are_refused(sequences, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        changed(MEMORY, {"sequences": sequences})


def test_a_step_that_a_gpu_could_record_is_the_step_in_every_kind_of_epoch(samples):
    """Of the latent and the decoder epochs; those of the whole bound are not recorded, since memory goes on in them."""
    usual, static = (made(samples, static, latent_epochs=1, decoder_epochs=1) for static in (False, True))
    static._steps = StaticSteps(
        static._static_step, static._kept, static.optimizer.optimizer, torch.device("cpu"), Rerun()
    )
    for _ in range(3):
        figures = []
        for loop in (usual, static):
            for _ in loop.run_epoch():
                pass
            figures.append(loop.finish_epoch())
        assert figures[1] == pytest.approx(figures[0], rel=1e-4)
    expected, found = usual.tensors(), static.tensors()
    for name, x in expected.items():
        if not name.startswith(("totals.", "optimizer.")):
            torch.testing.assert_close(found[name], x, rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_what_the_decoders_learn_by_hand(model, batch):
    window = window_of(model)
    objective = Objective(model, model.system.settings())
    draws = drawn(model, window, objective.settings)
    everything = torch.ones(ROWS, 4, dtype=torch.bool)
    embeddings = model.embed(batch, everything)
    lesson = Lesson(embeddings, embeddings, model.fuse(embeddings, everything))
    found = objective(batch, draws, BETA, window=window, lesson=lesson)
    remembered = Remembered(stepped(model, batch, window)[0], window.remembered)
    full = model.fuse(embeddings, everything, remembered)
    latents = [
        full.sample(draws.noise[0]),
        model.fuse(embeddings, window.given.flatten(0, 1), remembered).mean,
        model.fuse(embeddings, draws.subsets[-1, :, :4]).mean,
    ]
    expected = sum(
        -model.modalities[name].weight * log_likelihood(model.modalities[name], batch[name], x)
        for z in latents
        for name, x in model.decode(z).items()
    )
    torch.testing.assert_close(found.loss, (expected / 3).mean(), rtol=1e-4, atol=1e-4)
    assert found.scored[0].all() and not found.scored[1].any()


@pytest.mark.parametrize("key", ["latent_epochs", "decoder_epochs"])
def test_epochs_of_a_part_without_a_model_to_learn_from_are_refused(tmp_path, shared_logs, key):
    with pytest.raises(TrainingError, match=f"{key}: expected --init with a trained model"):
        train(job(tmp_path, shared_logs, changed(MEMORY, {"sequences": {key: 1}})), Console(quiet=True))


def test_a_model_without_memory_has_no_latent_epochs(samples):
    schedule = {"epochs": 10, "schedule": "cosine"}
    with_none = changed(
        Configuration(),
        {"model": {"size": "tiny", "modalities": SMALL}, "sequences": {"latent_epochs": 4}, "training": schedule},
    )
    model = MultimodalVAE(with_none.model.model_copy(update={"modalities": samples.modalities}))
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    loop = Loop(with_none, model, samples, fabric, Interruption(), Console(quiet=True))
    assert loop.learning == "everything" and loop.teacher is None
    assert loop.learning_rate(5.0) == pytest.approx(0.5 * with_none.training.learning_rate)
