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
from smvae_core.systems.registry import SYSTEMS
from smvae_core.training.interruption import Interruption
from smvae_core.training.loop import Loop, TrainingError
from smvae_core.training.static_step import StaticSteps

from ..conftest import SMALL, write_logs

TINY = changed(
    Configuration(), {"model": {"size": "tiny", "modalities": SMALL}, "training": {"batch_size": 20, "epochs": 2}}
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    """68 samples; the actions at the ends of logs are missing, and the force of half of the trajectories."""
    folder = write_logs(tmp_path_factory.mktemp("loop") / "logs")
    data = TINY.data.model_copy(update={"missing": {"*journal_[01]": ("force",)}})
    samples, _ = read_logs(folder, TINY.model.modalities, data, folder / "cache", False, Console(quiet=True))
    return Samples(**{**vars(samples), "modalities": fitted(samples)})


def made(samples: Samples, configuration: Configuration = TINY, precision: str = "32-true", **options) -> Loop:
    torch.manual_seed(0)
    model = MultimodalVAE(configuration.model.model_copy(update={"modalities": samples.modalities}))
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, precision=precision)
    return Loop(configuration, model, samples, fabric, Interruption(), Console(quiet=True), **options)


@pytest.fixture
def loop(samples) -> Loop:
    return made(samples)


class Rerun:
    """A stand-in for `Recorder`: runs what is recorded once, as a recorder warms up, and again each time."""

    def record(self, function):
        function()
        return function


def trained(loop: Loop, epochs: int = 2) -> list[dict[str, float]]:
    figures = []
    for _ in range(epochs):
        for _ in loop.run_epoch():
            pass
        figures.append(loop.finish_epoch())
    return figures


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_static_step_is_the_step_for_every_system(samples, system):
    """Absent rows are masked instead of left out. In double precision, since Adam enlarges rounding."""
    configuration = changed(TINY, {"model": {"system": system}, "training": {"clip": 1e4, "schedule": "cosine"}})
    usual, static = (made(samples, configuration, "64-true", static=static) for static in (False, True))
    for one, other in zip(trained(usual, 1), trained(static, 1)):
        assert other == pytest.approx(one, rel=1e-5)
    expected, found = usual.tensors(), static.tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if not name.startswith("totals."):
            torch.testing.assert_close(
                found[name], tensor, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_a_static_step_is_the_step_where_training_corrupts(samples):
    some = {"blank": 0.2, "noisy": 0.1, "another": 0.1, "saturated": 0.1}
    configuration = changed(TINY, {"corruption": {"images": some, "numbers": {"blank": 0.3}}})
    usual, static = (made(samples, configuration, "64-true", static=static) for static in (False, True))
    trained(usual, 1), trained(static, 1)
    for (name, one), other in zip(usual.model.state_dict().items(), static.model.state_dict().values()):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_recording_a_step_leaves_no_trace(samples, monkeypatch):
    """Recording runs the step, also in the middle of a run, for the batches of the second size."""
    plain, recorded = made(samples, static=True), made(samples, static=True)
    recorded._steps = StaticSteps(
        recorded._static_step, recorded._kept, recorded.optimizer.optimizer, torch.device("cpu"), Rerun()
    )
    assert {len(rows) for rows in np.array_split(np.arange(len(samples)), plain.steps)} == {17}
    expected, found = trained(plain, 1), trained(recorded, 1)
    steps(plain, 9)(), steps(recorded, 9)()
    assert found == expected
    for name, tensor in plain.tensors().items():
        assert torch.equal(recorded.tensors()[name], tensor), name


def test_a_static_run_goes_on_from_its_state(samples):
    once, first, second = (made(samples, static=True) for _ in range(3))
    expected = trained(once, 2)
    trained(first, 1)
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.epoch = 1
    assert trained(second, 1) == expected[1:]
    for name, tensor in once.tensors().items():
        assert torch.equal(second.tensors()[name], tensor), name


def test_a_static_step_trains_in_mixed_precision(samples):
    loop = made(samples, precision="bf16-mixed", static=True)
    assert np.isfinite(trained(loop, 1)[0]["loss"])


def test_the_bad_batch_of_static_steps_is_named(samples):
    loop = made(samples, changed(TINY, {"training": {"learning_rate": 1e30}}), static=True)
    with pytest.raises(TrainingError, match="epoch 1, batch 2 of 4: expected a finite loss"):
        trained(loop, 1)


def steps(loop: Loop, size: int = 20) -> Callable[[], None]:
    loop.objective.train()
    rows = np.arange(size)
    return lambda: loop.train_step(rows, slice(size), *loop.loader.batch(rows))


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
