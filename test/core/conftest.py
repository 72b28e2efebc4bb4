"""Logs and models small enough for tests."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from smvae_core.checkpoint import TrainingRecord, save
from smvae_core.configuration import Configuration
from smvae_core.modality import vision_touch_modalities
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE

torch.set_num_threads(1)

SMALL = [
    modality.model_dump() | {"preprocessing": modality.preprocessing.model_dump() | {"size": 32}}
    if modality.is_image
    else modality.model_dump()
    for modality in vision_touch_modalities()
]
"""The modalities of Vision&Touch, for configurations: images of 32 × 32, with which a training takes half the time."""


@pytest.fixture
def model() -> MultimodalVAE:
    """An untrained model of the smallest size, in evaluation mode, with batch statistics that were changed."""
    return untrained()


def untrained() -> MultimodalVAE:
    """Return the model of the fixture `model`."""
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture
def path(tmp_path: Path, model: MultimodalVAE) -> Path:
    """A checkpoint of that model."""
    return saved(model, tmp_path)


@pytest.fixture(scope="session")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model as `model` is, for tests that only read it."""
    return saved(untrained(), tmp_path_factory.mktemp("untrained"))


def saved(model: MultimodalVAE, folder: Path) -> Path:
    """Save a model in a folder."""
    record = TrainingRecord(data="none", commands=(), configuration=Configuration(), epochs=0, samples=0, held_out=())
    save(folder / "model.safetensors", model, {}, record, None)
    return folder / "model.safetensors"


@pytest.fixture
def batch() -> Batch:
    """Six samples of four modalities, in model units."""
    generator = torch.Generator().manual_seed(1)
    return {
        "rgb": torch.rand(6, 3, 64, 64, generator=generator),
        "depth": torch.rand(6, 1, 64, 64, generator=generator),
        "force": torch.rand(6, 6, 32, generator=generator) * 2 - 1,
        "action": torch.randn(6, 4, generator=generator),
    }


def write_log(path: Path, steps: int, seed: int = 0, **replaced: np.ndarray) -> Path:
    """A Vision&Touch log of noise around a moving bright square; `replaced` overrides keys, None leaves one out."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 30, (steps, 128, 128, 3), dtype=np.uint8)
    depth = np.full((steps, 128, 128, 1), 1.0, np.float32)
    for step in range(steps):
        left = (seed * 37 + step * 9) % 96
        image[step, 40:72, left : left + 32] = 220
        depth[step, 40:72, left : left + 32] = 0.5
    content = {
        "image": image,
        "depth_data": depth,
        "ee_forces_continuous": random.normal(0, 2, (steps, 50, 6)),
        "action": random.normal(0, 0.5, (steps, 4)) + np.arange(steps)[:, None],
        "contact": np.repeat(random.integers(0, 2, (steps, 1)), 50, axis=1).astype(np.float64),
        "proprio": random.normal(0, 1, (steps, 8)),
    }
    with h5py.File(path, "w") as file:
        for key, value in (content | replaced).items():
            if value is not None:
                file.create_dataset(key, data=value)
    return path


def write_logs(folder: Path) -> Path:
    """Four trajectories of two parts, of ten and seven steps."""
    folder.mkdir()
    for trajectory in range(4):
        for part, steps in enumerate((10, 7)):
            name = f"20190408_18304{part}_triangle_0_journal_{trajectory}_{part}_1000.h5"
            write_log(folder / name, steps, seed=10 * trajectory + part)
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The logs of `write_logs`, to be changed by a test."""
    return write_logs(tmp_path / "logs")


@pytest.fixture(scope="session")
def shared_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of `write_logs`, for tests that only read them."""
    return write_logs(tmp_path_factory.mktemp("shared") / "logs")
