"""Pictures and depth of HDF5 files: JPEG, grey, channels first, millimetres."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import yaml

from smvae_core.configuration import Configuration
from smvae_core.data.draft import describe, draft
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Depth

from ..robot_data import numbers, picture
from .test_hdf5 import camera, read


@pytest.mark.parametrize("kind", ["rows", "bytes", "arrays"])
@pytest.mark.parametrize("form", ["aloha", "logs"])
def test_compressed_pictures_are_read_however_they_are_stored(tmp_path, kind, form):
    key = "observations/images/cam_high" if form == "aloha" else "camera/front"
    for episode, length in enumerate((4, 6)):
        jpegs = [cv2.imencode(".jpg", picture(episode, step)[..., ::-1])[1].ravel() for step in range(length)]
        with h5py.File(tmp_path / f"episode_{episode}.hdf5", "w") as file:
            file["action"] = file["observations/qpos" if form == "aloha" else "state"] = numbers(episode, length)[0]
            if kind == "rows":  # of another length in each episode
                rows = np.zeros((length, max(map(len, jpegs)) + 100 * episode), np.uint8)
                for row, jpeg in zip(rows, jpegs):
                    row[: len(jpeg)] = jpeg
                file[key] = rows
            elif kind == "bytes":
                file[key] = np.array([jpeg.tobytes() for jpeg in jpegs])
            else:
                dataset = file.create_dataset(key, (length,), h5py.vlen_dtype(np.uint8))
                for step, jpeg in enumerate(jpegs):
                    dataset[step] = jpeg
    found = {feature.key: feature for feature in describe(tmp_path).features}[key]
    assert (found.kind, found.shape, found.problem) == ("picture", (64, 96, 3), "")
    samples = read(tmp_path, form, camera(key), cache=tmp_path / "cache")
    assert len(samples) == 10
    assert np.abs(samples.batch(np.arange(4, 10))[0]["rgb"][3].numpy() - RGB().apply(picture(1, 3))).mean() < 0.02


def test_pictures_with_channels_first_and_depth_in_millimetres_are_read(tmp_path):
    random = np.random.default_rng(0)
    millimetres = random.integers(300, 1900, (5, 48, 64)).astype(np.uint16)
    pictures = np.stack([picture(0, step) for step in range(5)])
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["cam/colour"], file["cam/depth"] = np.moveaxis(pictures, -1, 1), millimetres
        file["cam/half"] = (millimetres / 1000).astype(np.float16)
    found = {feature.key: feature for feature in describe(tmp_path).features}
    assert {feature.kind for feature in found.values()} == {"picture", "depth"}
    assert found["cam/depth"].high == pytest.approx(1.9, abs=0.01)
    depth, half = (
        Modality(name=name, source=f"cam/{name}", preprocessing=Depth(size=64), network="image", likelihood="bernoulli")
        for name in ("depth", "half")
    )
    batch, _ = read(tmp_path, "logs", camera("cam/colour"), depth, half, cache=tmp_path / "cache").batch(np.arange(5))
    np.testing.assert_allclose(batch["rgb"][2], RGB().apply(pictures[2]), atol=0.01)
    np.testing.assert_allclose(batch["depth"][2], Depth(size=64).apply(millimetres[2] / np.float32(1000)), atol=0.001)
    np.testing.assert_allclose(batch["half"][2], batch["depth"][2], atol=0.002)


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
