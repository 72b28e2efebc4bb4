"""Trainings on little: from the weights of another model, on a single log, continued for more epochs."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from smvae_core import checkpoint
from smvae_core.checkpoint import CheckpointError, TrainingRecord
from smvae_core.configuration import Configuration, changed
from smvae_core.data.formats.protocol import LogError
from smvae_core.evaluation.held_out import read_logs_to_judge
from smvae_core.modality import vision_touch_modalities
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.training.initialisation import InitialisationError, initialise, recipe
from smvae_core.training.state import Position, continued
from smvae_core.training.train import Interrupted, train

from ..conftest import write_log
from .test_run import ONCE, TINY, figures, job


def build(seed: int, names: tuple[str, ...] = ("rgb", "depth", "force", "action"), **options: object) -> MultimodalVAE:
    torch.manual_seed(seed)
    modalities = tuple(m for m in vision_touch_modalities() if m.name in names)
    return MultimodalVAE(ModelConfiguration(**{"size": "tiny", "modalities": modalities, **options}))


def saved(model: MultimodalVAE, path: Path, commands: tuple[str, ...] = ()) -> Path:
    record = TrainingRecord(
        data="none", commands=commands, configuration=Configuration(), epochs=0, samples=0, held_out=()
    )
    checkpoint.save(path, model, {}, record, None)
    return path


@pytest.mark.parametrize("system", ["smvae", "mvae", "jmvae"])
def test_weights_of_the_modalities_that_both_have_are_taken(tmp_path, system):
    other, model = build(0, ("force", "action"), system=system), build(1, system=system)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = initialise(model, saved(other, tmp_path / "other.safetensors"))
    assert "the embedding of force" in found.taken and "the decoder of action" in found.taken
    assert {"the embedding of rgb", "the decoder of depth"} <= set(found.new)
    for name, value in model.state_dict().items():
        part = name.split(".")[1]
        expected = other.state_dict()[name] if part in ("force", "action") else before[name]
        if not name.startswith("fusion"):
            assert torch.equal(value, expected), name


def test_the_same_model_is_taken_whole(tmp_path):
    other, model = build(0), build(1)
    found = initialise(model, saved(other, tmp_path / "other.safetensors"))
    assert not found.new and not found.left
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_an_action_of_another_length_and_another_latent_are_new(tmp_path):
    longer = tuple(
        m.model_copy(update={"preprocessing": Vector(size=6)}) if m.name == "action" else m
        for m in vision_touch_modalities()
    )
    path = saved(build(0), tmp_path / "other.safetensors")
    model = build(1, modalities=longer)
    told = initialise(model, path).told(path)
    both = "the embedding of action, the decoder of action"
    assert f"; new are {both}; not used are its weights of {both}" in told
    found = initialise(build(1, latent=5), path)
    assert {"the posterior's mean", "the decoder of rgb"} <= set(found.new) and "the embedding of rgb" in found.taken


def test_modalities_that_only_the_checkpoint_has_are_told(tmp_path):
    found = initialise(build(1, ("force",)), saved(build(0, ("force", "rgb")), tmp_path / "other.safetensors"))
    assert found.left == ("the embedding of rgb", "the decoder of rgb") and "the embedding of force" in found.taken


def test_nothing_that_fits_and_no_checkpoint_are_told(tmp_path):
    path = saved(build(0, ("force",)), tmp_path / "other.safetensors")
    with pytest.raises(InitialisationError, match="expected a model with modalities among rgb"):
        initialise(build(1, ("rgb",), size="compact"), path)
    with pytest.raises(CheckpointError):
        initialise(build(1), tmp_path / "nothing.safetensors")


def test_a_run_that_starts_from_its_own_result_starts_where_it_ended(shared_logs, tmp_path):
    first = train(job(shared_logs, tmp_path / "first"), Console(quiet=True))
    told = io.StringIO()
    second = train(
        replace(job(shared_logs, tmp_path / "second", ONCE, init=first.best), command="second"),
        Console(file=told, width=500),
    )
    recipes = [checkpoint.read_metadata(run.best).training for run in (first, second)]
    assert recipes[0] is not None and recipes[1] is not None
    assert recipes[1].commands == (*recipes[0].commands, "second")
    assert f"starting from {first.best}: weights of the embedding of rgb" in told.getvalue()
    losses = [figures(run)[0]["training"]["loss"] for run in (first, second)]
    assert losses[1] < losses[0], "the first epoch of trained weights against that of random ones"


def test_a_run_that_goes_on_says_that_it_does_not_look_at_another_checkpoint(shared_logs, tmp_path):
    other = train(job(shared_logs, tmp_path / "other", ONCE), Console(quiet=True)).best
    train(replace(job(shared_logs, tmp_path / "run", ONCE), command="first"), Console(quiet=True))
    told = io.StringIO()
    twice = changed(ONCE, {"training": {"epochs": 2}})
    again = replace(job(shared_logs, tmp_path / "run", twice, init=other), resume=True, command="again")
    record = checkpoint.read_metadata(train(again, Console(file=told, width=500)).last).training
    assert f"{other}: is not looked at, because the run in {tmp_path / 'run'} goes on" in told.getvalue()
    assert record is not None and record.commands == ("first", "again"), "those of the other checkpoint do not count"


def test_a_checkpoint_that_is_missing_is_told_before_logs_are_read(shared_logs, tmp_path):
    with pytest.raises(CheckpointError, match="nothing.safetensors"):
        train(job(shared_logs, tmp_path / "run", TINY, init=tmp_path / "nothing.safetensors"), Console(quiet=True))
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "bad.h5").write_bytes(b"no HDF5")
    with pytest.raises(LogError, match=r"bad\.h5"):
        train(job(tmp_path / "logs", tmp_path / "run"), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_single_log_is_trained_on_and_judged_on_the_blocks_that_it_held_out(tmp_path):
    (tmp_path / "logs").mkdir()
    write_log(tmp_path / "logs" / "only.h5", 40)
    told = io.StringIO()
    run = train(job(tmp_path / "logs", tmp_path / "run"), Console(file=told, width=500))
    assert "held out are blocks of time" in told.getvalue()
    metadata = checkpoint.read_metadata(run.best)
    assert metadata.training is not None and metadata.training.held_out == ()
    quiet = Console(quiet=True)
    unseen, seen = read_logs_to_judge(metadata, tmp_path / "logs", True, None, False, quiet)
    assert seen is not None and len(seen) == metadata.training.samples and len(unseen) == 10
    assert not set(seen.rows) & set(unseen.rows)


@pytest.fixture(scope="module")
def lengthened(shared_logs, tmp_path_factory) -> list[tuple[TrainingRecord, TrainingRecord]]:
    """What best and last checkpoint say of a training for an epoch, by the same command again, and for a second one."""
    out, found = tmp_path_factory.mktemp("lengthened") / "run", []
    for number, epochs in enumerate((1, 1, 2)):
        configuration = changed(TINY, {"training": {"epochs": epochs}})
        command = f"smvae train --epochs {epochs}" + " --resume" * (number == 1)
        run = train(
            replace(job(shared_logs, out, configuration, resume=number > 0), command=command), Console(quiet=True)
        )
        found.append(tuple(checkpoint.read_metadata(path).training for path in (run.best, run.last)))
    return found


def test_a_command_that_trains_nothing_more_is_no_part_of_the_recipe(lengthened):
    assert [best.commands for best, _ in lengthened[:2]] == [("smvae train --epochs 1",)] * 2


def test_the_recipe_has_every_command_that_trained_and_no_other(lengthened):
    assert [best.configuration.training.epochs for best, _ in lengthened] == [1, 1, 2]
    for record in lengthened[2]:
        assert record.commands == ("smvae train --epochs 1", "smvae train --epochs 2")


def test_the_recipe_of_a_run_begins_with_that_of_the_checkpoint_it_starts_from(tmp_path):
    path = saved(build(0, ("force",)), tmp_path / "other.safetensors", ("train a", "train b"))
    assert recipe("train c", path).splitlines() == ["train a", "train b", "train c"]
    assert recipe("train b", path).splitlines() == ["train a", "train b"]
    assert recipe("train c", None) == "train c"


@pytest.mark.parametrize(
    ("step", "command", "epochs", "expected"),
    [
        (0, "a\nc", 2, "a, b  # stopped before the first step, c"),
        (0, "c", 2, "a, b  # stopped before the first step, c"),  # without --init, the weights are the stored ones
        (7, "a\nc", 2, "a, b  # stopped after 0 epochs and 7 steps, c"),
        (7, "a\nlater of a\nc", 2, "a, b  # stopped after 0 epochs and 7 steps, c"),  # the other run went on since
        (7, "a\nc", 1, "a, b"),
    ],
)
def test_a_resumed_run_keeps_the_commands_that_it_started_from(step, command, epochs, expected, tmp_path):
    def position(command: str, epochs: int) -> Position:
        configuration = changed(TINY, {"training": {"epochs": epochs}})
        return Position(
            command=command, configuration=configuration, model=ModelConfiguration(), data="same", step=step
        )

    found = continued(tmp_path, position("a\nb", 1), position(command, epochs))
    assert found.command.splitlines() == expected.split(", ")


@pytest.mark.parametrize(
    ("epoch", "step", "best", "patience", "comment"),
    [
        (4, 0, 1, None, ""),
        (2, 0, 1, None, "  # stopped after 2 epochs"),
        (2, 3, 1, 5, "  # stopped after 2 epochs and 3 steps"),
        (3, 0, 1, 2, ""),  # its patience was over
    ],
)
def test_a_command_that_did_not_come_to_its_end_is_marked(epoch, step, best, patience, comment, tmp_path):
    def position(command: str, epochs: int, arithmetic: str) -> Position:
        configuration = changed(TINY, {"training": {"epochs": epochs, "patience": patience}})
        model = ModelConfiguration()
        return Position(command=command, arithmetic=arithmetic, configuration=configuration, model=model, data="same")

    stored = position("a", 4, "32").model_copy(update={"epoch": epoch, "step": step, "best_epoch": best})
    found = continued(tmp_path, stored, position("b", 8, "32"))
    assert found.command.splitlines() == [f"a{comment}", "b"]
    again = continued(tmp_path, found.model_copy(update={"epoch": 8, "step": 0}), position("c", 9, "32"))
    assert again.command.splitlines() == [f"a{comment}", "b", "c"]
    other = continued(tmp_path, stored, position("b", 4, "bf16-mixed"))
    assert other.command.splitlines() == [f"a{comment}", "b"] and other.arithmetic == "bf16-mixed"
    assert continued(tmp_path, stored, position("b", 4, "32")).command == "a"


def test_a_run_that_was_stopped_before_its_first_step_tells_so(shared_logs, tmp_path):
    first = replace(job(shared_logs, tmp_path / "run"), command="smvae train --epochs 3")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smvae_core.training.loop.Loop.run_epoch", interrupted)
        with pytest.raises(Interrupted):
            train(first, Console(quiet=True))
    longer = changed(TINY, {"training": {"epochs": 2}})
    command = "smvae train --epochs 2 --resume"
    run = train(replace(job(shared_logs, tmp_path / "run", longer, resume=True), command=command), Console(quiet=True))
    training = checkpoint.read_metadata(run.best).training
    assert training is not None
    assert training.commands == ("smvae train --epochs 3  # stopped before the first step", command)


def interrupted(loop: object) -> None:
    raise KeyboardInterrupt
