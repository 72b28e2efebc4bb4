"""What a look at a data set tells of single episodes that lack a feature, or that training would refuse."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from rich.console import Console

from smvae_core.configuration import Configuration, DataConfiguration
from smvae_core.data.columns import read_columns
from smvae_core.data.draft import describe, draft, feature_rows
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.registry import find_trajectories
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import BadLogs

from ..robot_data import write_aloha, write_robomimic
from .test_hdf5 import read, vector

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
    "key 'observations/qpos' expected numbers, found text": lambda file: replace(
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


def test_a_file_that_was_cut_off_is_told_however_many_episodes_there_are(tmp_path: Path) -> None:
    data = write_aloha(tmp_path / "aloha", lengths=[3] * 45)
    cut = data / "episode_1.hdf5"
    cut.write_bytes(cut.read_bytes()[:3000])
    found = describe(data)
    assert [sentence.split(":")[0] for sentence in found.unusable] == [str(cut)] and found.steps == 3 * 44


CUTS: dict[str, Callable[[Path], object]] = {
    "found one that cannot be opened": lambda path: path.write_bytes(path.read_bytes()[:30_000]),
    "found none": lambda path: spoil(path, lambda file: file.__delitem__("data/demo_0")),
    "found a damaged one": lambda path: path.write_bytes(path.read_bytes().replace(b"TREE", b"????")),
}


@pytest.mark.parametrize("sentence", CUTS)
def test_a_damaged_file_of_demonstrations_does_not_stop_the_others(tmp_path: Path, sentence: str) -> None:
    for name in ("a", "b", "c"):
        write_robomimic(tmp_path / "data" / f"{name}.hdf5", [4])
    bad = tmp_path / "data" / "b.hdf5"
    CUTS[sentence](bad)
    found = describe(tmp_path / "data")
    (told,) = found.unusable
    assert told.startswith(f"{bad}: expected") and sentence in told
    assert found.format == "robomimic" and (found.trajectories, found.steps, found.rate) == (3, 8, 20)
    modalities = Configuration.model_validate(yaml.safe_load(draft(found))).model.modalities
    with pytest.raises(BadLogs, match=rf"1 of 3 files cannot be used .*\n  {bad}: expected .*{sentence}"):
        read(tmp_path / "data", "robomimic", *modalities, cache=tmp_path / "cache")
    form = DataConfiguration(format="robomimic")
    kept = read_logs(tmp_path / "data", modalities, form, tmp_path / "cache", True, Console(quiet=True))
    assert kept.samples.names == ("a/demo_0", "c/demo_0") and list(kept.skipped) == [bad]
    for path in (bad.with_name("a.hdf5"), bad.with_name("c.hdf5")):
        CUTS[sentence](path)
    with pytest.raises(LogError, match=r"a.hdf5: expected"):
        describe(tmp_path / "data")


def test_files_of_one_name_in_several_folders_or_of_two_suffixes_stay_apart(tmp_path: Path) -> None:
    robomimic, aloha = tmp_path / "robomimic", write_aloha(tmp_path / "aloha", [3])
    for task in ("can", "lift"):
        write_robomimic(robomimic / task / "low_dim.hdf5", [4])
    names = [trajectory.name for trajectory in find_trajectories(robomimic, "robomimic")]
    assert names == ["can/low_dim/demo_0", "lift/low_dim/demo_0"]
    shutil.copy(aloha / "episode_0.hdf5", aloha / "episode_0.h5")
    for form in ("aloha", "logs"):
        names = [trajectory.name for trajectory in find_trajectories(aloha, form)]
        assert sorted(names) == ["episode_0.h5", "episode_0.hdf5"]


def test_damage_anywhere_in_a_file_is_one_sentence_or_seen_in_no_number(tmp_path: Path) -> None:
    for number in range(2):
        with h5py.File(tmp_path / f"run_{number}.h5", "w") as file:
            file["arm/left/joints"] = np.arange(12.0).reshape(6, 2)
            file.create_dataset("arm/right", data=np.arange(18.0).reshape(6, 3), compression="gzip")
    path = tmp_path / "run_1.h5"
    whole = path.read_bytes()
    joints = vector("arm/left/joints", 2), vector("arm/right", 3, "right")
    for place in range(0, len(whole), 240):
        path.write_bytes(whole[:place] + bytes(160) + whole[place + 160 :])
        found = describe(tmp_path)
        assert not found.lacking, f"what stands at {place} is damaged, not missing"
        try:
            read_columns(path, joints)
        except LogError as error:
            assert str(error).startswith(f"{path}: ")


def test_what_is_no_row_of_numbers_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["arm"] = np.arange(12.0).reshape(6, 2)
        for name, kind in (("bits", h5py.h5t.STD_B8LE), ("time", h5py.h5t.UNIX_D32LE)):
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((6,)))
        file["nothing"], file["single"], file["none"] = h5py.Empty("f"), 3.0, np.zeros((6, 0))
        file["pair"] = np.zeros(6, [("a", "f4"), ("b", "i4")])
        file["there"] = h5py.ExternalLink("elsewhere.h5", "/x")
    told = {row[0]: row[-1] for row in feature_rows(describe(tmp_path))}
    assert told.pop("arm") == "arm" and told.pop("bits") == "never changes"
    assert told.pop("time") == "expected numbers, found a type that NumPy does not have"
    assert told.pop("there") == "is a link that leads nowhere" and told.pop("none") == "holds no number"
    assert all(sentence.startswith("expected ") for sentence in told.values()) and len(told) == 3
    for key in ("time", "nothing", "single", "pair"):
        with pytest.raises(LogError, match=f"run.h5: key '{key}' expected"):
            read_columns(tmp_path / "run.h5", [vector("arm", 2), vector(key, 1, "other")])


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
