"""Coherence counts what an oracle gets right; the map of the latent has a place for each sample and subset."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from smvae_core.configuration import DataConfiguration
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.reproduce.coherence import Classifier, classifier, coherence
from smvae_core.reproduce.experiments import EXPERIMENTS
from smvae_core.reproduce.latent_map import latent_map

from ..made_data import write_idx

CLASSES = 10


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    folder = write_idx(tmp_path_factory.mktemp("idx") / "data", 300, 60)
    modalities = EXPERIMENTS["mnist"].modalities("idx", folder)
    return read_logs(folder, modalities, DataConfiguration(format="idx"), folder, False, Console(quiet=True)).samples


@pytest.fixture(scope="module")
def judge(samples, tmp_path_factory) -> Classifier:
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    return classifier(path, samples, ("image", "label"), 10, torch.device("cpu"), Console(quiet=True))


class Oracle(MultimodalVAE):
    """Its latent is the class; it draws an image of the class `off` after it."""

    def __init__(self, samples: Samples, off: int) -> None:
        super().__init__(ModelConfiguration(size="tiny", latent=CLASSES, modalities=samples.modalities))
        self.off = off

    def posterior(self, batch: dict[str, Tensor], mask: Tensor) -> SimpleNamespace:
        told = batch["label"] if bool(mask[0, 1]) else _class_of(batch["image"])
        return SimpleNamespace(sample=lambda noise, choice: told)

    def decode(self, z: Tensor, names: object = None) -> dict[str, Tensor]:
        image = torch.full((len(z), 1, 28, 28), -20.0)
        for row, number in zip(image, (z.argmax(dim=1) + self.off) % CLASSES):
            row[:, 2 * number : 2 * number + 6] = 1.3
        return {"image": image, "label": 20.0 * torch.eye(CLASSES)[z.argmax(dim=1)]}


def _class_of(images: Tensor) -> Tensor:
    return torch.eye(CLASSES)[images[:, 0, :, 0].gt(0.5).float().argmax(dim=1) // 2]


@pytest.mark.parametrize(("off", "share"), [(0, 1.0), (3, 0.0)])
def test_an_oracle_is_right_about_everything_and_a_confused_one_about_its_images_never(samples, judge, off, share):
    found = coherence(Oracle(samples, off), judge, samples)
    assert found.samples == 360
    assert found.classifier == 1.0
    assert found.generated == share
    assert found.unconditional == share
    assert found.predicted == 1.0


def test_coherence_is_the_same_twice(samples, judge):
    model = Oracle(samples, 1)
    assert coherence(model, judge, samples, 50) == coherence(model, judge, samples, 50)


def test_a_classifier_is_trained_once_and_again_where_its_file_is_damaged(samples, judge, tmp_path: Path):
    path = tmp_path / "classifier.safetensors"
    arguments = (samples, ("image", "label"), 1, torch.device("cpu"), Console(quiet=True))
    first = classifier(path, *arguments)
    written = path.stat().st_mtime_ns
    again = classifier(path, *arguments)
    assert path.stat().st_mtime_ns == written
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(first(x), again(x))
    path.write_bytes(b"damaged")
    assert torch.equal(classifier(path, *arguments)(x), first(x))


def test_the_classifier_of_other_data_is_not_taken(samples, tmp_path: Path):
    path, rest = tmp_path / "classifier.safetensors", (("image", "label"), 1, torch.device("cpu"), Console(quiet=True))
    halves = [samples.select(np.arange(first, 360, 2)) for first in (0, 1)]
    x = torch.rand(3, 1, 28, 28)
    first, second = (classifier(path, half, *rest)(x) for half in halves)
    assert not torch.equal(first, second)
    path.unlink()
    assert torch.equal(classifier(path, halves[1], *rest)(x), second)


def test_a_map_has_a_place_for_each_sample_and_subset(samples):
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny", modalities=samples.modalities))
    subsets = [("image", "label"), ("image",)]
    found = latent_map(model, samples, subsets, 12)
    assert found.points.shape == (2, 12, 2)
    assert np.isfinite(found.points).all()
    assert np.array_equal(found.samples, np.unique(found.samples))
    assert np.array_equal(latent_map(model, samples, subsets, 12).points, found.points)
