"""What a training step must not do on a GPU, as far as a processor can tell."""

from collections.abc import Callable

import lightning_fabric
import numpy as np
import pytest
import torch
from rich.console import Console
from torch.distributed.utils import _to_kwargs

from smvae_core.configuration import Configuration, changed
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples, fitted, model_units
from smvae_core.modality import vision_touch_modalities
from smvae_core.model.vae import MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.systems.draws import Draws
from smvae_core.training.interruption import Interruption
from smvae_core.training.loop import Loop

TINY = changed(Configuration(), {"model": {"size": "tiny"}, "training": {"batch_size": 20, "epochs": 2}})


@pytest.fixture
def loop(shared_logs, tmp_path) -> Loop:
    quiet = Console(quiet=True)
    samples, _ = read_logs(shared_logs, TINY.model.modalities, TINY.data, tmp_path, False, quiet)
    samples = Samples(**{**vars(samples), "modalities": fitted(samples)})
    model = MultimodalVAE(TINY.model.model_copy(update={"modalities": samples.modalities}))
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    return Loop(TINY, model, samples, fabric, Interruption(), quiet)


def steps(loop: Loop) -> Callable[[], None]:
    loop.objective.train()
    rows = np.arange(20)
    return lambda: loop.train_step(rows, slice(20), *loop.loader.batch(rows))


def test_a_step_copies_no_number_of_python_to_the_device(loop, monkeypatch):
    """Such a copy is blocking: a GPU would be waited for."""
    step = steps(loop)
    step()

    def refuse(self, *_, **__):
        raise AssertionError("new_tensor")

    monkeypatch.setattr(torch.Tensor, "new_tensor", refuse)
    step()


def test_offset_and_scale_stay_on_the_device(monkeypatch):
    action = next(m for m in vision_touch_modalities() if m.name == "action")
    record = Vector(size=4, offset=(1.0, 2.0, 3.0, 4.0), scale=(2.0, 2.0, 4.0, 4.0))
    modality = action.model_copy(update={"preprocessing": record})
    x = torch.arange(8.0).view(2, 4)
    expected = (x.numpy() - np.array(record.offset)) / np.array(record.scale)
    np.testing.assert_array_equal(model_units(modality, x), expected.astype(np.float32))
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("made again"))
    np.testing.assert_array_equal(model_units(modality, x), expected.astype(np.float32))


def test_processes_that_train_together_leave_the_draws_on_the_processor():
    draws = Draws(*(torch.ones(1, 2, 3, dtype=torch.bool) for _ in range(3)), torch.zeros(1, 2, 4))
    ((moved, same),), _ = _to_kwargs((torch.zeros(2), draws), {}, torch.device("meta"), False)
    assert moved.device.type == "meta" and same is draws and same.noise.device.type == "cpu"
