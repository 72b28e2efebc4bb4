"""A checkpoint says all that is needed to run it, and a bad one is refused in words."""

import json

import pytest
import torch
from safetensors.torch import save_file

from smvae_core import __version__, checkpoint
from smvae_core.checkpoint import CheckpointError, TrainingRecord
from smvae_core.configuration import Configuration


@pytest.fixture
def saved(tmp_path, model):
    record = TrainingRecord(
        data="four logs",
        commands=("smvae train",),
        configuration=Configuration(),
        epochs=3,
        samples=10,
        held_out=("a",),
    )
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, model, {"action": torch.arange(4.0)}, record, None)
    return path


def header_of(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(path, header, rest):
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + rest)


def test_a_model_comes_back_as_it_was(saved, model, batch):
    loaded = checkpoint.load(saved)
    mask = torch.ones(6, 4, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(loaded.model.posterior(batch, mask).mean, model.posterior(batch, mask).mean)
    assert torch.equal(loaded.mean["action"], torch.arange(4.0))
    assert loaded.metadata.model == model.configuration
    assert loaded.metadata.training.data == "four logs"


def test_a_failed_write_leaves_the_old_file(saved, model, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(saved, model, {}, checkpoint.load(saved).metadata.training, None)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing.safetensors: no such checkpoint"):
        checkpoint.load(tmp_path / "nothing.safetensors")


def test_a_path_that_the_system_refuses_is_told_in_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / ("x" * 300))


@pytest.mark.parametrize("keep", [0, 7, 200, 20_000])
def test_a_truncated_file_is_refused(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or foreign"):
        checkpoint.load(saved)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="without its metadata"):
        checkpoint.load(tmp_path / "other.safetensors")


def test_a_pickle_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="damaged or foreign"):
        checkpoint.load(tmp_path / "model.pt")


def test_a_newer_format_is_refused_by_its_version(saved):
    header, rest = header_of(saved)
    content = json.loads(header["__metadata__"]["smvae"]) | {"format": 99, "package_version": "7.0.0", "new": {}}
    header["__metadata__"]["smvae"] = json.dumps(content)
    with_header(saved, header, rest)
    with pytest.raises(CheckpointError, match="format 1 or older, found 99, made by a newer version, smvae 7.0.0"):
        checkpoint.load(saved)


def test_a_key_that_a_newer_version_added_is_told_with_that_version(saved):
    header, rest = header_of(saved)
    content = json.loads(header["__metadata__"]["smvae"])
    content["model"]["flow"] = 3
    for version, told in (
        ("7.0.0", "another version, smvae 7.0.0: unknown key 'model.flow'; install that version"),
        (__version__, "damaged metadata: unknown key 'model.flow'"),
    ):
        header["__metadata__"]["smvae"] = json.dumps(content | {"package_version": version})
        with_header(saved, header, rest)
        with pytest.raises(CheckpointError, match=told):
            checkpoint.load(saved)


@pytest.mark.parametrize(
    "metadata", ["{", "[]", "{}", f'{{"format": 1, "package_version": "{__version__}", "model": {{"latent": -1}}}}']
)
def test_damaged_metadata_is_refused(saved, metadata):
    header, rest = header_of(saved)
    header["__metadata__"]["smvae"] = metadata
    with_header(saved, header, rest)
    with pytest.raises(CheckpointError, match="damaged metadata"):
        checkpoint.load(saved)


def test_networks_that_their_modalities_do_not_fit_are_refused(saved):
    header, rest = header_of(saved)
    content = json.loads(header["__metadata__"]["smvae"])
    content["model"]["modalities"][0]["preprocessing"]["size"] = 30
    header["__metadata__"]["smvae"] = json.dumps(content)
    with_header(saved, header, rest)
    with pytest.raises(CheckpointError, match="damaged metadata: rgb: network 'image' takes square images"):
        checkpoint.load(saved)


def test_weights_of_another_model_are_refused(saved):
    header, rest = header_of(saved)
    content = json.loads(header["__metadata__"]["smvae"])
    content["model"]["latent"] = 32
    header["__metadata__"]["smvae"] = json.dumps(content)
    with_header(saved, header, rest)
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.load(saved)


def test_weights_that_are_not_finite_are_refused(saved, model):
    with torch.no_grad():
        model.fusion.query[0] = float("nan")
    checkpoint.save(saved, model, {}, checkpoint.load(saved).metadata.training, None)
    with pytest.raises(CheckpointError, match="finite"):
        checkpoint.load(saved)
