"""LeRobot data sets of versions 2.1 and 3.0 become samples; what cannot be used is named with its file and feature."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from rich.console import Console

from smvae_core.configuration import DataConfiguration
from smvae_core.data.draft import describe, draft, feature_rows
from smvae_core.data.formats.lerobot import find_episodes, read_episode
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Grey, Vector

from ..robot_data import SIDE, features, numbers, picture, write_lerobot_2, write_lerobot_3, write_video

VERSIONS = pytest.mark.parametrize("write", [write_lerobot_2, write_lerobot_3])
FRONT = "observation.images.front"


def modalities(size: int = SIDE) -> tuple[Modality, ...]:
    return (
        Modality(name="front", source=FRONT, preprocessing=RGB(size=size), network="image", likelihood="bernoulli"),
        Modality(
            name="state",
            source="observation.state",
            preprocessing=Vector(size=3),
            network="vector",
            likelihood="normal",
        ),
        Modality(name="action", source="action", preprocessing=Vector(size=5), network="vector", likelihood="normal"),
    )


def read(folder: Path, chosen: tuple[Modality, ...] | None = None, **options: Any) -> Samples:
    configuration = DataConfiguration(format="lerobot")
    return read_logs(
        folder, chosen or modalities(), configuration, folder.parent / "cache", console=Console(quiet=True), **options
    ).samples


@VERSIONS
def test_episodes_become_trajectories_of_pictures_states_and_actions(tmp_path, write):
    samples = read(write(tmp_path / "set"), skip_bad=False)
    assert samples.names == ("episode_000000", "episode_000001", "episode_000002")
    assert len(samples) == 31 and samples.available.all()
    batch, _ = samples.batch(np.arange(31))
    state, action = (np.concatenate([numbers(e, n)[k] for e, n in enumerate((12, 9, 10))]) for k in (0, 1))
    np.testing.assert_array_equal(batch["state"], state)
    np.testing.assert_array_equal(batch["action"], action)


@VERSIONS
def test_every_frame_stands_with_its_step(tmp_path, write):
    """The second episode begins between key frames of a shared video."""
    folder = write(tmp_path / "set")
    for episode, length in enumerate((12, 9, 10)):
        found = list(read_episode(folder / f"episode_{episode:06d}", [FRONT], {})[FRONT])
        assert len(found) == length
        for step, image in enumerate(found):
            assert image.shape == (SIDE, SIDE + 32, 3) and image.dtype == np.uint8
            assert np.abs(image.astype(int) - picture(episode, step)).mean() < 6


def test_a_picture_resized_while_it_is_decoded_is_that_which_preprocessing_gives(tmp_path):
    folder = write_lerobot_3(tmp_path / "set")
    path = folder / "episode_000001"
    small = list(read_episode(path, [FRONT], {FRONT: 32})[FRONT])
    full = [RGB(size=32).resized(image) for image in read_episode(path, [FRONT], {})[FRONT]]
    for quick, exact in zip(small, full, strict=True):
        assert np.abs(quick.transpose(2, 0, 1).astype(int) - exact).mean() < 3


def test_av1_is_decoded_too(tmp_path):
    policy = os.sched_getscheduler(0)
    folder = write_lerobot_3(tmp_path / "set", codec="libsvtav1")
    assert os.sched_getscheduler(0) == policy, "the other tests would run at a real-time priority"
    found = list(read_episode(folder / "episode_000002", [FRONT], {})[FRONT])
    assert all(np.abs(image.astype(int) - picture(2, step)).mean() < 8 for step, image in enumerate(found))


def test_several_cameras_and_looks_of_one(tmp_path):
    folder = write_lerobot_3(tmp_path / "set", cameras=("front", "grey"))
    chosen = (
        *modalities(),
        Modality(
            name="second",
            source="observation.images.grey",
            preprocessing=RGB(),
            network="image",
            likelihood="bernoulli",
        ),
        Modality(
            name="edges",
            source=f"{FRONT}.edges",
            preprocessing=Grey(),
            network="image",
            likelihood="bernoulli",
            min_valid=0.0,
        ),
    )
    samples = read(folder, chosen, skip_bad=False)
    assert samples.available.all()
    batch, _ = samples.batch(np.arange(3))
    assert torch.allclose(batch["front"], batch["second"], atol=0.05)
    assert set(batch["edges"].unique().tolist()) == {0.0, 1.0}


def test_the_command_stands_beside_its_observation_unless_the_configuration_says_otherwise(tmp_path):
    folder = write_lerobot_3(tmp_path / "set")
    following = tuple(m.model_copy(update={"pairs": "following"}) if m.name == "action" else m for m in modalities())
    samples = read(folder, following, skip_bad=False)
    assert np.flatnonzero(~samples.available[:, 2]).tolist() == [11, 20, 30]
    batch, _ = samples.batch(np.arange(11))
    np.testing.assert_array_equal(batch["action"], numbers(0, 12)[1][1:])


def test_pictures_in_the_table_are_read(tmp_path):
    import cv2
    import pyarrow as pa

    folder = write_lerobot_2(tmp_path / "set", lengths=(4,), cameras=())
    path = folder / "data/chunk-000/episode_000000.parquet"
    cells = [{"bytes": cv2.imencode(".png", picture(0, s)[..., ::-1])[1].tobytes(), "path": ""} for s in range(4)]
    parquet.write_table(parquet.read_table(path).append_column("observation.image", pa.array(cells)), path)
    extra = {"observation.image": {"dtype": "image", "shape": [SIDE, SIDE + 32, 3]}}
    change(folder, lambda info: info["features"].update(extra))
    found = list(read_episode(folder / "episode_000000", ["observation.image"], {})["observation.image"])
    assert all(np.array_equal(image, picture(0, step)) for step, image in enumerate(found))


@VERSIONS
def test_a_second_time_nothing_is_decoded_and_a_changed_video_is_read_again(tmp_path, write):
    folder = write(tmp_path / "set")
    before = read(folder, skip_bad=False).batch(np.arange(31))[0]["front"]
    assert torch.equal(read(folder, skip_bad=False).batch(np.arange(31))[0]["front"], before)
    for path in folder.rglob("*.mp4"):
        write_video(path, [np.zeros((SIDE, SIDE + 32, 3), np.uint8)] * 31)
    assert read(folder, skip_bad=False).batch(np.arange(31))[0]["front"].max() < 0.1


@VERSIONS
def test_an_episode_that_the_list_of_episodes_lacks_is_named_and_can_be_left_out(tmp_path, write):
    folder = write(tmp_path / "set")
    if write is write_lerobot_2:
        path = folder / "meta/episodes.jsonl"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if '"episode_index": 1' not in line))
    else:
        path = folder / "meta/episodes/chunk-000/file-000.parquet"
        table = parquet.read_table(path)
        parquet.write_table(table.slice(0, 1), path)
        parquet.write_table(table.slice(2), path.with_name("file-002.parquet"))  # file-001 is gone
    sentence = "episode_000001: is not in the list of episodes; it has 2 of the 3 that meta/info.json counts"
    with pytest.raises(LogError, match=sentence):
        read(folder, skip_bad=False)
    assert len(read(folder, skip_bad=True)) == 22
    found = describe(folder)
    assert (found.trajectories, found.steps, found.unusable) == (2, 22, (f"{folder}/{sentence}",))


def test_a_feature_without_a_shape_is_one_number(tmp_path):
    extra = {"task_index": {"dtype": "int64", "shape": []}}
    folder = write_lerobot_3(tmp_path / "set", features=features(("front",), extra))
    assert read_episode(folder / "episode_000001", ["task_index"], {})["task_index"].shape == (9, 1)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change `info.json`."""
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


def video(folder: Path) -> Path:
    return sorted(folder.rglob("*.mp4"))[0]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing video": (lambda f: video(f).unlink(), f"feature '{FRONT}', videos/.*mp4: no such file"),
    "truncated video": (lambda f: video(f).write_bytes(video(f).read_bytes()[:2000]), f"'{FRONT}', videos/.*mp4"),
    "empty video": (lambda f: video(f).write_bytes(b""), f"'{FRONT}', videos/.*mp4: expected a whole video"),
    "short video": (
        lambda f: write_video(video(f), [picture(0, 0)] * 6),
        f"'{FRONT}', videos/.*: expected 12 frames from 0.000 s on, found 6",
    ),
    "video of another rate": (
        lambda f: write_video(video(f), [picture(0, 0)] * 40, fps=25),
        f"'{FRONT}', videos/.*: expected 10 frames a second, as meta/info.json says, found a video of 25",
    ),
    "unknown codec": (
        lambda f: video(f).write_bytes(video(f).read_bytes().replace(b"avc1", b"zzzz")),
        f"'{FRONT}', videos/.*: expected a codec",
    ),
    "wrong fps": (
        lambda f: change(f, lambda info: info.update(fps=50)),
        "feature 'timestamp': expected steps of 0.0200 s, as fps 50 in meta/info.json says, found 0.1000 s",
    ),
    "missing column": (
        lambda f: change(f, lambda info: info["features"].update(action={"dtype": "float32", "shape": [9]})),
        r"feature 'action': expected \(12, 9\) numbers, found 60",
    ),
    "missing data file": (lambda f: sorted(f.rglob("data/**/*.parquet"))[0].unlink(), "parquet cannot be read"),
    "damaged data file": (
        lambda f: sorted(f.rglob("data/**/*.parquet"))[0].write_bytes(b"PAR1"),
        "expected a whole parquet file",
    ),
}


@VERSIONS
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_sentence_with_file_and_feature_and_can_be_left_out(tmp_path, write, damage):
    folder = write(tmp_path / "set")
    spoil, sentence = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(LogError, match=sentence) as error:
        read(folder, skip_bad=False)
    assert "Traceback" not in str(error.value) and "episode_000000" in str(error.value)
    if write is write_lerobot_2 and damage not in ("wrong fps", "missing column"):
        assert len(read(folder, skip_bad=True)) == 19


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda info: info.update(codebase_version="v1.6"), r"version v2.0, v2.1, v3.0, found v1.6"),
        (lambda info: info.pop("fps"), "'fps': Field required"),
        (lambda info: info.update(fps=0), "'fps'"),
        (lambda info: info.pop("video_path"), f"'video_path' for feature '{FRONT}'"),
        (lambda info: info.update(features=[]), "'features'"),
        (lambda info: info.update(data_path="data/{nothing}.parquet"), "does not fit info.json"),
    ],
)
@VERSIONS
def test_a_damaged_description_is_told(tmp_path, write, edit, sentence):
    folder = write(tmp_path / "set")
    change(folder, edit)
    with pytest.raises(LogError, match=sentence):
        find_episodes(folder)


def test_a_text_feature_is_named(tmp_path):
    folder = write_lerobot_2(
        tmp_path / "set", features=features(("front",), {"note": {"dtype": "string", "shape": [1]}})
    )
    text = Modality(name="note", source="note", preprocessing=Vector(size=1), network="vector", likelihood="normal")
    with pytest.raises(LogError, match="feature 'note' expected numbers or pictures, found text"):
        read(folder, (*modalities(), text), skip_bad=False)


def test_formats_that_are_mixed_or_mistaken_are_told(tmp_path):
    folder = write_lerobot_3(tmp_path / "set")
    with pytest.raises(LogError, match=r"expected HDF5 files, found a LeRobot data set .* data.format to lerobot"):
        read_logs(folder, modalities(), DataConfiguration(), None, False, Console(quiet=True))
    (folder / "stranger.hdf5").write_bytes(b"")
    with pytest.raises(LogError, match=r"lerobot \(meta/info.json\) and logs \(stranger.hdf5\)"):
        read(folder, skip_bad=False)
    with pytest.raises(LogError, match="of one format"):
        describe(folder)
    (folder / "raw").mkdir()
    (folder / "stranger.hdf5").rename(folder / "raw" / "recorded.hdf5")
    assert describe(folder).trajectories == 3
    (folder / "raw" / "recorded.hdf5").rename(tmp_path / "stranger.hdf5")
    with pytest.raises(LogError, match=r"of one format, found lerobot \(set/meta/info.json\) and logs"):
        describe(tmp_path)
    (tmp_path / "stranger.hdf5").unlink()
    with pytest.raises(LogError, match=r"expected one data set, found LeRobot data sets in its subfolders \(set\)"):
        describe(tmp_path)


@VERSIONS
def test_the_draft_names_what_can_be_learned_and_why_the_rest_cannot(tmp_path, write):
    import yaml

    folder = write(
        tmp_path / "set",
        cameras=("front", "wrist"),
        features=features(("front", "wrist"), {"note": {"dtype": "string", "shape": [1]}}),
    )
    for path in folder.rglob("*wrist*/**/*.mp4"):
        path.unlink()
    found = describe(folder)
    assert (found.format, found.trajectories, found.steps, found.rate) == ("lerobot", 3, 31, 10)
    rows = {row[0]: row[-1] for row in feature_rows(found)}
    assert rows["observation.state"] == "state" and rows["action"] == "action" and rows[FRONT] == "front"
    assert "is text" in rows["note"] and "numbers rows" in rows["timestamp"]
    assert "videos are missing" in rows["observation.images.wrist"]
    content = yaml.safe_load(draft(found))
    assert content["data"] == {"format": "lerobot"}
    assert [m["source"] for m in content["model"]["modalities"]] == ["observation.state", "action", FRONT]
    assert {m["pairs"] for m in content["model"]["modalities"]} == {"same"}


def test_one_damaged_episode_leaves_its_features_in_the_draft(tmp_path):
    folder = write_lerobot_2(tmp_path / "set")
    sorted(folder.rglob("data/**/*.parquet"))[-1].unlink()
    rows = {row[0]: row[-1] for row in feature_rows(describe(folder))}
    assert rows["observation.state"] == "state" and rows["action"] == "action"
    with pytest.raises(LogError, match="episode_000002.* cannot be read"):
        read(folder, skip_bad=False)


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d not in ("wrong fps", "missing column")])
def test_one_damaged_episode_is_told_and_its_features_stay_in_the_draft(tmp_path, damage):
    folder = write_lerobot_2(tmp_path / "set")
    spoil, sentence = DAMAGE[damage]
    spoil(folder)
    found = describe(folder)
    (told,) = found.unusable
    assert told.startswith(f"{folder / 'episode_000000'}: ") and found.looked_at == 3
    assert re.search(sentence.split(":")[0], told)
    rows = {row[0]: row[-1] for row in feature_rows(found)}
    assert rows[FRONT] == "front" and rows["observation.state"] == "state" and rows["action"] == "action"


def test_a_missing_file_is_told_however_many_episodes_there_are(tmp_path):
    folder = write_lerobot_2(tmp_path / "set", lengths=[2] * 45)
    (folder / "videos/chunk-000" / FRONT / "episode_000001.mp4").unlink()
    (folder / "data/chunk-000/episode_000004.parquet").unlink()
    assert [Path(told.split(":")[0]).name for told in describe(folder).unusable] == ["episode_000001", "episode_000004"]


def test_a_link_to_a_video_is_followed(tmp_path):
    folder = write_lerobot_3(tmp_path / "set")
    path = video(folder)
    shutil.move(path, tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")
    assert len(read(folder, skip_bad=False)) == 31
