"""States that are written while training goes on."""

import pytest
import torch

from smvae_core.configuration import Configuration
from smvae_core.training.run import TrainingError
from smvae_core.training.state import Position, StateWriter, load_state


def position(step: int) -> Position:
    configuration = Configuration()
    return Position(command="smvae train", configuration=configuration, model=configuration.model, data="", step=step)


@pytest.fixture(params=[False, True], ids=["at once", "in the background"])
def writer(request) -> StateWriter:
    return StateWriter(background=request.param)


def test_a_state_is_that_of_the_moment_it_was_saved_at(writer, tmp_path):
    path, weights, here = tmp_path / "state.safetensors", torch.arange(3.0), position(1)
    for step in range(1, 6):
        here.step = step
        writer.save(path, here, {"weights": weights})
        here.step = 99
        weights += 1.0
        writer.wait()
        found, tensors = load_state(path)
        assert found.step == step
        assert torch.equal(tensors["weights"], torch.arange(3.0) + step - 1)


def test_weights_that_are_not_finite_leave_the_last_good_state(writer, tmp_path):
    path = tmp_path / "state.safetensors"
    writer.save(path, position(1), {"weights": torch.zeros(3), "steps": torch.tensor(1)})
    with pytest.raises(TrainingError, match="epoch 1, batch 2: expected finite weights"):
        writer.save(path, position(2), {"weights": torch.tensor([0.0, float("nan")]), "steps": torch.tensor(2)})
        writer.wait()
    assert load_state(path)[0].step == 1


def test_a_disk_that_is_full_is_told_at_the_next_save_at_the_latest(writer, tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        for step in (1, 2):
            writer.save(path, position(step), {"weights": torch.zeros(3)})
    assert not path.exists()
