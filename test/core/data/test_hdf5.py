"""HDF5 files of robomimic, of ALOHA and with any keys become samples by configuration alone."""

import io
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from rich.console import Console

from smvae_core.configuration import Configuration, DataConfiguration
from smvae_core.data.draft import describe, draft, feature_rows
from smvae_core.data.formats import hdf5
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.registry import find_trajectories
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Vector

from ..conftest import write_log
from ..robot_data import numbers, picture, write_aloha, write_lerobot_3, write_robomimic


def vector(source: str, size: int, name: str = "state", **options: str) -> Modality:
    return Modality(
        name=name, source=source, preprocessing=Vector(size=size), network="vector", likelihood="normal", **options
    )


def camera(source: str) -> Modality:
    return Modality(name="rgb", source=source, preprocessing=RGB(), network="image", likelihood="bernoulli")


def read(data: Path, form: str, *modalities: Modality, cache: Path) -> Samples:
    configuration = DataConfiguration(format=form)
    return read_logs(data, modalities, configuration, cache, False, Console(quiet=True)).samples


def test_robomimic_demonstrations_become_trajectories(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5")
    chosen = (vector("obs/robot0_eef_pos", 3), vector("actions", 5, "action"), camera("obs/agentview_image"))
    samples = read(path, "robomimic", *chosen, cache=tmp_path / "cache")
    assert samples.names == ("demo_0", "demo_1", "demo_2") and len(samples) == 28 and samples.available.all()
    batch, _ = samples.batch(np.arange(8, 19))
    np.testing.assert_array_equal(batch["state"], numbers(1, 11)[0])
    np.testing.assert_array_equal(batch["action"], numbers(1, 11)[1])
    np.testing.assert_allclose(batch["rgb"][3], RGB().apply(picture(1, 3)), atol=0.01)
    assert len(read(path.parent, "robomimic", *chosen, cache=tmp_path / "cache")) == 28


def test_a_folder_of_several_robomimic_files_keeps_their_demonstrations_apart(tmp_path):
    for name, lengths in (("lift", (4, 5)), ("can", (6,))):
        write_robomimic(tmp_path / f"{name}.hdf5", lengths)
    samples = read(tmp_path, "robomimic", vector("obs/robot0_eef_pos", 3), cache=tmp_path / "cache")
    assert samples.names == ("can/demo_0", "lift/demo_0", "lift/demo_1") and len(samples) == 15


@pytest.mark.parametrize("compressed", [False, True])
def test_aloha_episodes_become_trajectories(tmp_path, compressed):
    folder = write_aloha(tmp_path / "aloha", lengths=(8, 11, 9, *[3] * 8), compressed=compressed)
    chosen = (
        vector("observations/qpos", 3),
        vector("action", 5, "action"),
        camera("observations/images/top"),
    )
    samples = read(folder, "aloha", *chosen, cache=tmp_path / "cache")
    assert samples.names[:3] == ("episode_0", "episode_1", "episode_2") and samples.names[-1] == "episode_10"
    assert samples.available.all()
    batch, _ = samples.batch(np.arange(8))
    np.testing.assert_array_equal(batch["action"], numbers(0, 8)[1])
    assert np.abs(batch["rgb"][5].numpy() - RGB().apply(picture(0, 5))).mean() < 0.02


def test_what_is_no_column_of_an_episode_is_named_and_the_rest_is_read(tmp_path):
    folder = write_aloha(tmp_path / "aloha")
    for episode in range(3):
        with h5py.File(folder / f"episode_{episode}.hdf5", "a") as file:
            del file.attrs["sim"]
            length = len(file["action"])
            file["base_action"] = np.random.default_rng(0).normal(size=(length, 2))
            file["calibration"] = np.random.default_rng(0).normal(size=(2, 12))
            file["dead"], file["gone"] = h5py.SoftLink("/nowhere"), h5py.ExternalLink("gone.hdf5", "/x")
            file["again"], file["loop"] = h5py.SoftLink("/observations/qpos"), h5py.SoftLink("/")
            file["instruction"], file["note"] = "pick the cube", np.array(["a word"] * length, dtype="S")
            if episode == 1:
                del file["action"]
    found = describe(folder)
    told = {row[0]: row[-1] for row in feature_rows(found)}
    assert told["dead"] == told["gone"] == "is a link that leads nowhere"
    assert told["calibration"].startswith("has 2 entries where other keys have ")
    assert told["instruction"].startswith("expected numbers") and told["note"].startswith("expected numbers")
    configuration = Configuration.model_validate(yaml.safe_load(draft(found)))
    sources = {m.source for m in configuration.model.modalities}
    assert {"again", "base_action", "action"} < sources
    samples = read(folder, "aloha", *configuration.model.modalities, cache=tmp_path / "cache")
    assert found.format == "aloha" and len(samples) == found.steps == 28


def test_a_file_that_a_writer_has_open_is_told(tmp_path):
    path = write_log(tmp_path / "log.h5", 5)
    script = "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        with pytest.raises(LogError, match="log.h5: another program writes this file"):
            describe(tmp_path)


def test_any_keys_with_slashes_are_read_from_h5_and_hdf5_files_in_folders(tmp_path):
    for number, suffix in enumerate((".h5", ".hdf5")):
        path = tmp_path / "logs" / f"day{number}" / f"run{suffix}"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["robot/left/joints"] = numbers(number, 6)[0]
            file["command/velocity"] = numbers(number, 6)[1]
    chosen = (vector("robot/left/joints", 3), vector("command/velocity", 5, "action", pairs="following"))
    samples = read(tmp_path / "logs", "logs", *chosen, cache=tmp_path / "cache")
    assert samples.names == ("day0/run", "day1/run") and len(samples) == 12
    assert np.flatnonzero(~samples.available[:, 1]).tolist() == [5, 11]
    np.testing.assert_array_equal(samples.batch(np.arange(5))[0]["action"], numbers(0, 6)[1][1:])


def test_files_of_folders_and_subfolders_are_read_each_once_whatever_the_case_of_their_suffix(tmp_path):
    logs = tmp_path / "logs"
    for place in ("top.h5", "monday/run.hdf5", "monday/late/run.HDF5", ".trash/old.h5", "monday/.part.h5"):
        (logs / place).parent.mkdir(parents=True, exist_ok=True)
        write_log(logs / place, 4)
    (logs / "again.h5").symlink_to(logs / "monday" / "run.hdf5")
    (logs / "latest").symlink_to(logs / "monday")
    (logs / "monday" / "up").symlink_to(logs)
    away = tmp_path / "away"
    away.mkdir()
    write_log(away / "far.h5", 4)
    (logs / "tuesday").symlink_to(away)
    names = [trajectory.name for trajectory in find_trajectories(logs, "logs")]
    assert names == ["monday/late/run", "monday/run", "top", "tuesday/far"]
    assert (describe(logs).trajectories, describe(logs).steps) == (4, 16)


def test_a_folder_of_bags_says_how_to_make_logs_of_them(tmp_path):
    (tmp_path / "monday").mkdir()
    (tmp_path / "monday" / "monday_0.mcap").touch()
    with pytest.raises(LogError, match=r"found bags \(monday/monday_0.mcap\); turn them into logs with smvae log"):
        find_trajectories(tmp_path, "logs")


def test_one_file_among_many_with_another_shape_is_named_and_the_others_are_described(tmp_path):
    for number, size in enumerate((3, 3, 5, 3)):
        with h5py.File(tmp_path / f"run_{number}.h5", "w") as file:
            file["arm/joints"] = numbers(number, 9)[size == 5]
    found = describe(tmp_path)
    assert [(feature.key, feature.shape, feature.problem) for feature in found.features] == [("arm/joints", (3,), "")]
    (sentence,) = found.unusable
    assert sentence.endswith("run_2.h5: key 'arm/joints' has shape (5,) per step where most episodes have (3,)")


def test_an_action_of_any_length_is_read_and_is_paired_as_in_vision_touch_logs(tmp_path):
    write_log(tmp_path / "log.h5", 5, action=numbers(0, 5)[1])
    samples = read(tmp_path, "logs", vector("action", 5, "action"), cache=tmp_path / "cache")
    np.testing.assert_array_equal(samples.batch(np.arange(4))[0]["action"], numbers(0, 5)[1][1:])
    assert samples.available[:, 0].tolist() == [True] * 4 + [False]
    assert samples.modalities[0].pairs == "following"


def test_long_episodes_are_read_block_by_block(tmp_path, monkeypatch):
    folder = write_aloha(tmp_path / "aloha", lengths=(9,))
    monkeypatch.setattr(hdf5, "_BLOCK_BYTES", 50_000)
    with h5py.File(folder / "episode_0.hdf5") as file:
        found = hdf5.steps(folder, folder / "episode_0.hdf5", file, ["observations/images/top"])[
            "observations/images/top"
        ]
    assert isinstance(found, hdf5.Frames) and len(found) == 9
    assert all(np.array_equal(image, picture(0, step)) for step, image in enumerate(found))


def test_a_filter_that_is_not_installed_is_called_that(tmp_path):
    path = write_log(tmp_path / "log.h5", 5)
    with h5py.File(path, "a") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((5, 3))
        plist.set_filter(32_004, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"state", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((5, 3)), plist)
        file["state"].id.write_direct_chunk((0, 0), b"compressed")
    with pytest.raises(LogError, match=r"key 'state' is compressed with HDF5 filter 32004.*not installed.*hdf5plugin"):
        read(tmp_path, "logs", vector("state", 3), cache=tmp_path / "cache")
    assert "not installed" in {row[0]: row[-1] for row in feature_rows(describe(tmp_path))}["state"]


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("logs", "found a robomimic file .* set data.format to robomimic"),
        ("aloha", r"expected at least one of the keys \['obs/x'\]"),
    ],
)
def test_a_robomimic_file_in_another_format_is_told(tmp_path, form, sentence):
    write_robomimic(tmp_path / "lift.hdf5")
    with pytest.raises(LogError, match=sentence):
        read(tmp_path, form, vector("obs/x", 3), cache=tmp_path / "cache")


def test_a_file_without_demonstrations_is_told(tmp_path):
    write_log(tmp_path / "log.h5", 3)
    with pytest.raises(LogError, match="log.h5: expected robomimic demonstrations"):
        read(tmp_path, "robomimic", vector("actions", 3), cache=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["a group", "a dead link", "nothing"])
def test_a_demonstration_without_one_modality_is_used_and_named(tmp_path, kind):
    path = write_robomimic(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        demo = file["data/demo_1"]
        del demo["actions"]
        if kind == "a group":
            demo.create_group("actions")
        elif kind == "a dead link":
            demo["actions"] = h5py.SoftLink("/nowhere")
    console = Console(record=True, width=200, quiet=False, file=io.StringIO())
    modalities = (vector("obs/robot0_eef_pos", 3), vector("actions", 5, "action"))
    configuration = DataConfiguration(format="robomimic")
    samples = read_logs(path, modalities, configuration, tmp_path / "cache", False, console).samples
    assert len(samples) == 28 and samples.available.sum(axis=0).tolist() == [28, 17]
    assert "action: 1 of 3 trajectories have no sample of it that can be used ('actions'), as demo_1" in (
        console.export_text()
    )


def test_formats_in_one_folder_are_told_apart(tmp_path):
    write_robomimic(tmp_path / "lift.hdf5")
    write_log(tmp_path / "log.h5", 3)
    with pytest.raises(
        LogError, match=r"expected data of one format, found logs \(log.h5\) and robomimic \(lift.hdf5\)"
    ):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("write", "form", "sources"),
    [
        (
            lambda f: write_robomimic(f / "x.hdf5"),
            "robomimic",
            {"actions", "obs/robot0_eef_pos", "obs/agentview_image"},
        ),
        (
            lambda f: write_aloha(f / "aloha", compressed=True),
            "aloha",
            {"action", "observations/qpos", "observations/qvel", "observations/images/top"},
        ),
        (
            lambda f: write_log(f / "log.h5", 6, contact=None),
            "logs",
            {"image", "depth_data", "ee_forces_continuous", "action", "proprio"},
        ),
        (lambda f: write_lerobot_3(f / "set"), "lerobot", {"observation.state", "action", "observation.images.front"}),
    ],
)
def test_a_draft_reads_the_data_that_it_was_drafted_from(tmp_path, write, form, sources):
    from smvae_core.data.samples import fitted

    data = write(tmp_path)
    found = describe(data)
    configuration = Configuration.model_validate(yaml.safe_load(draft(found)))
    assert configuration.data.format == form
    assert {m.source for m in configuration.model.modalities} == sources
    samples = read(data, form, *configuration.model.modalities, cache=tmp_path / "cache")
    assert len(samples) == found.steps and len(fitted(samples)) == len(sources)


def write_runs(folder: Path, **keys: list[np.ndarray]) -> Path:
    """Write one file for each entry of the lists; an empty entry leaves the key out."""
    folder.mkdir()
    for number in range(max(map(len, keys.values()))):
        with h5py.File(folder / f"run_{number}.hdf5", "w") as file:
            for key, entries in keys.items():
                if entries[number].size:
                    file[key] = entries[number]
    return folder


def test_a_data_set_is_described_by_several_of_its_episodes(tmp_path):
    random = np.random.default_rng(0)
    none = np.zeros(0)
    data = write_runs(
        tmp_path / "runs",
        arm=[random.normal(size=(length, 3)) for length in (1, 5, 4)],  # one step alone never changes
        hand=[none, random.normal(size=(5, 2)), none],
        grip=[random.normal(size=length) for length in (1, 5, 4)],  # one number per step
        still=[np.full((length, 2), (0.1, 0.2)) for length in (1, 5, 4)],
        mixed=[random.normal(size=(1, 2)), random.normal(size=(5, 4)), none],
        broken=[np.full((1, 2), np.nan), random.normal(size=(5, 2)), none],
    )
    found = describe(data)
    told = {row[0]: row[-1] for row in feature_rows(found)}
    assert found.steps == 10
    assert told == {
        "arm": "arm",
        "broken": "broken",
        "grip": "grip",
        "hand": "hand",
        "mixed": "expected one shape per step, found (2,) and (4,)",
        "still": "never changes",
    }
    samples = read(data, "logs", vector("grip", 1), cache=tmp_path / "cache")
    with h5py.File(data / "run_1.hdf5") as file:
        np.testing.assert_allclose(samples.batch(np.arange(1, 6))[0]["state"][:, 0], file["grip"], rtol=1e-6)
    with pytest.raises(LogError, match="run_0.hdf5: key 'broken', step 0: .* found NaN"):
        read(data, "logs", vector("broken", 2), cache=tmp_path / "other")


def test_nothing_to_learn_from_is_an_error_that_says_why(tmp_path):
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["name"] = np.array([b"left"] * 3)
        file["still"] = np.ones((3, 2))
    with pytest.raises(LogError, match=r"name expected numbers, found .*; still never changes"):
        draft(describe(tmp_path))


def test_a_dataset_without_a_shape_is_described_as_unusable(tmp_path):
    with h5py.File(tmp_path / "log.h5", "w") as log:
        log["arm"], log["nothing"] = np.random.default_rng(0).normal(size=(9, 2)), h5py.Empty("f4")
    problems = {feature.key: feature.problem for feature in describe(tmp_path).features}
    assert problems == {"arm": "", "nothing": "expected one entry per step, found a single value"}


def test_two_modalities_of_one_key_are_read_each_in_its_own_way(tmp_path):
    folder = write_aloha(tmp_path / "aloha")
    small = Modality(
        name="small",
        source="observations/images/top",
        preprocessing=RGB(size=32),
        network="image",
        likelihood="bernoulli",
    )
    chosen = (camera("observations/images/top"), small, vector("action", 5, "now"))
    ahead = vector("action", 5, "next", pairs="following")
    samples = read(folder, "aloha", *chosen, ahead, cache=tmp_path / "cache")
    batch, available = samples.batch(np.arange(8))
    assert batch["rgb"].shape[-1] == 64 and batch["small"].shape[-1] == 32
    np.testing.assert_allclose(batch["small"][3], RGB(size=32).apply(picture(0, 3)), atol=0.01)
    np.testing.assert_array_equal(batch["next"][:-1], batch["now"][1:])
    assert available[:-1].all() and available[-1].tolist() == [True, True, True, False]
