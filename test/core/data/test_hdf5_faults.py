"""What a look at a data set tells of single episodes that lack a feature, or that training would refuse."""

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from smvae_core.configuration import Configuration
from smvae_core.data.draft import describe, draft, feature_rows
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import BadLogs

from ..robot_data import write_aloha, write_robomimic
from .test_hdf5 import read

FILTERED = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
FILTERED.set_chunk((11, 3))
FILTERED.set_filter(32_004, h5py.h5z.FLAG_OPTIONAL)


def spoil(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def replace(file: h5py.File, key: str, content: object) -> None:
    del file[key]
    file[key] = content


def filtered(file: h5py.File) -> None:
    """Store a key with a filter that nobody has installed."""
    del file["observations/qpos"]
    place = h5py.h5s.create_simple((11, 3))
    h5py.h5d.create(file["observations"].id, b"qpos", h5py.h5t.IEEE_F64LE, place, FILTERED)
    file["observations/qpos"].id.write_direct_chunk((0, 0), b"compressed")


def not_finite(file: h5py.File) -> None:
    file["observations/qpos"][4] = np.nan


FAULTS: dict[str, Callable[[h5py.File], None]] = {
    "key 'action' has 10 entries where other keys have 11": lambda file: replace(file, "action", file["action"][1:]),
    "key 'observations/qpos' expected finite values, found NaN or infinity": not_finite,
    "key 'observations/qpos' is compressed with HDF5 filter 32004, which is not installed": filtered,
    "key 'observations/qpos' expected numbers, found object": lambda file: replace(
        file, "observations/qpos", ["a word"] * 11
    ),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_an_episode_that_training_would_refuse_is_told_beforehand(tmp_path: Path, sentence: str) -> None:
    data = write_aloha(tmp_path / "aloha")
    spoil(data / "episode_1.hdf5", FAULTS[sentence])
    found = describe(data)
    (told,) = found.unusable
    assert told.startswith(f"{data / 'episode_1.hdf5'}: {sentence}") and not found.lacking and found.looked_at == 3
    modalities = Configuration.model_validate(yaml.safe_load(draft(found))).model.modalities
    assert {"action", "observations/qpos"} < {modality.source for modality in modalities}
    with pytest.raises(BadLogs, match="1 of 3 files cannot be used"):
        read(data, "aloha", *modalities, cache=tmp_path / "cache")


def test_a_file_that_was_cut_off_is_told_and_the_others_are_described(tmp_path: Path) -> None:
    data = write_aloha(tmp_path / "aloha")
    cut = data / "episode_1.hdf5"
    cut.write_bytes(cut.read_bytes()[:3000])
    found = describe(data)
    assert found.format == "aloha" and (found.trajectories, found.steps) == (3, 17)
    assert re.match(rf"{cut}: expected a whole HDF5 file, found .*truncated", found.unusable[0])
    for path in data.iterdir():
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(LogError, match="expected a whole HDF5 file"):
        describe(data)


def test_a_feature_that_some_episodes_lack_is_told(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "lift.hdf5")
    spoil(path, lambda file: file.__delitem__("data/demo_1/obs/agentview_image"))
    found = describe(path)
    assert found.lacking == (f"obs/agentview_image: 1 of 3 episodes looked at lack it, as {path / 'demo_1'}",)
    assert not found.unusable


def test_actions_of_another_length_in_every_episode_are_named_and_keep_their_name(tmp_path: Path) -> None:
    data = write_aloha(tmp_path / "aloha")
    for path in data.iterdir():
        spoil(path, lambda file: file.__setitem__("base_action", np.cumsum(file["action"], axis=0)[:, :2]))
        spoil(path, lambda file: replace(file, "action", file["action"][1:]))
    told = {row[0]: row[-1] for row in feature_rows(describe(data))}
    assert told["action"] == "has 7 entries where other keys have 8" and told["base_action"] == "base_action"


def test_grey_pictures_and_planes_with_channels_first_are_drafted_and_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 255, (6, 48, 64)).astype(np.uint8)
    depth = random.uniform(0.3, 1.9, (6, 48, 64)).astype(np.float32)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["grey/plane"], file["grey/last"], file["grey/first"] = grey, grey[..., None], grey[:, None]
        file["depth/plane"], file["depth/last"], file["depth/first"] = depth, depth[..., None], depth[:, None]
        file["depth/whole"] = (1000 * depth[:, None]).astype(np.uint16)
        file["größe"] = random.normal(size=(6, 2))
    found = describe(tmp_path)
    modalities = Configuration.model_validate(yaml.safe_load(draft(found))).model.modalities
    kinds = {modality.source: modality.preprocessing.kind for modality in modalities}
    assert kinds.pop("größe") == "vector" and all(key.startswith(kind) for key, kind in kinds.items())
    names = {modality.source: modality.name for modality in modalities}
    assert len(kinds) == 7 and names["größe"] == "grosse"
    batch, _ = read(tmp_path, "logs", *modalities, cache=tmp_path / "cache").batch(np.arange(6))
    for kind, others in (("grey", ("last", "first")), ("depth", ("last", "first", "whole"))):
        for other in others:
            plane, stored = batch[names[f"{kind}/plane"]], batch[names[f"{kind}/{other}"]]
            np.testing.assert_allclose(stored, plane, atol=0.002, err_msg=f"{kind}/{other}")
