"""How much of a sample is valid, and that a sample with too little counts as absent everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from smvae_core.checkpoint import Checkpoint, Metadata
from smvae_core.configuration import DataConfiguration
from smvae_core.data.cache import cache_folder
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import read_samples
from smvae_core.inference.engine import Engine
from smvae_core.modality import Modality, ModalityError, vision_touch_modalities
from smvae_core.preprocessing import RGB, Depth, Grey, Vector

from .conftest import write_log

RGB_, DEPTH, FORCE, ACTION = vision_touch_modalities()
BLANK = {
    "rgb": np.full((3, 64, 64), 0.4, np.float32),
    "depth": np.zeros((1, 64, 64), np.float32),
    "force": np.ones((6, 32), np.float32),
    "action": np.full(4, 1e6, np.float32),
}


def camera(record: RGB | Grey | Depth, **settings: float) -> Modality:
    return Modality(name="m", source="m", preprocessing=record, network="image", likelihood="bernoulli", **settings)


@given(st.integers(0, 64))
def test_the_valid_part_of_a_depth_image_is_that_with_readings(columns: int) -> None:
    metres = np.full((64, 64), 1.0, np.float32)
    metres[:, :columns] = np.nan
    assert DEPTH.valid_share(DEPTH.to_model(metres)) == pytest.approx(1.0 - columns / 64)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (12, 200, 90)])
def test_a_constant_picture_is_not_valid_nor_with_the_noise_of_a_covered_lens(colour: tuple[int, int, int]) -> None:
    raw = np.full((48, 64, 3), colour, np.uint8)
    noise = np.random.default_rng(0).integers(-2, 3, raw.shape)
    for picture in (raw, np.clip(raw + noise, 0, 255).astype(np.uint8)):
        x = RGB_.to_model(picture)
        assert RGB_.valid_share(x) == 0.0 and not RGB_.is_valid(x)


def test_a_small_thing_before_a_plain_wall_is_valid() -> None:
    raw = np.full((64, 64, 3), 90, np.uint8)
    raw[20:30, 20:30, 1] = 160
    assert RGB_.valid_share(RGB_.to_model(raw)) == pytest.approx(100 / 64**2) and RGB_.is_valid(RGB_.to_model(raw))


def test_saturated_and_infinite_numbers_are_not_valid() -> None:
    window = np.zeros((32, 6))
    window[:, :3] = 1e9
    assert FORCE.valid_share(FORCE.to_model(window)) == 0.5 and FORCE.is_valid(FORCE.to_model(window))
    window[:, 3] = -1e9
    assert not FORCE.is_valid(FORCE.to_model(window))
    assert ACTION.is_valid(np.array([0.0, 1.0, 2.0, 100.0])) and not ACTION.is_valid(np.array([0.0, 1.0, 2.0, 100.1]))
    assert not ACTION.is_valid(np.array([0.0, np.nan, 2.0, 3.0]))


@pytest.mark.parametrize("modality", [RGB_, DEPTH, FORCE, ACTION], ids=lambda m: m.name)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_makes_any_sample_invalid(modality: Modality, number: float) -> None:
    x = np.random.default_rng(0).random(modality.shape, np.float32)
    assert modality.is_valid(x)
    x.flat[1] = number
    assert modality.valid_share(x) == 0.0


def test_samples_are_judged_together_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    for modality in (RGB_, DEPTH, FORCE, ACTION):
        x = np.stack([random.random(modality.shape, np.float32), BLANK[modality.name]])
        assert modality.is_valid(x).tolist() == [True, False]
        assert modality.valid_share(x).tolist() == [float(modality.valid_share(one)) for one in x]


def test_the_threshold_is_data_of_the_modality() -> None:
    half = np.zeros((1, 64, 64), np.float32)
    half[:, :32] = 0.5
    for least, enough in ((0.5, True), (0.51, False), (0.0, True)):
        assert camera(Depth(), min_valid=least).is_valid(half) == enough
    assert camera(Grey(), min_valid=0.0).is_valid(np.zeros((1, 64, 64), np.float32))


def test_the_error_of_an_invalid_sample_says_what_was_expected_and_found() -> None:
    with pytest.raises(ModalityError, match="depth: expected at least 5 % pixels with a reading, found 0 %"):
        DEPTH.check_valid(BLANK["depth"])


@pytest.mark.parametrize("name", BLANK)
def test_for_the_engine_a_blank_modality_equals_an_absent_one(model, batch, name: str) -> None:
    metadata = Metadata(format=1, package_version="0", model=model.configuration)
    engine = Engine(Checkpoint(model, {}, metadata), "cpu", "eager")
    arrays = {other: x[0].numpy() for other, x in batch.items()}
    absent = {other: x for other, x in arrays.items() if other != name}
    for given_, expected in ((arrays | {name: BLANK[name]}, absent), ({name: BLANK[name]}, {})):
        found, wanted = engine.infer(given_, list(arrays)), engine.infer(expected, list(arrays))
        assert found.modalities == wanted.modalities == tuple(expected)
        assert found.attention == pytest.approx(wanted.attention, abs=1e-6)
        np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-6)
        np.testing.assert_allclose(found.log_variance, wanted.log_variance, atol=1e-6)
        for other in arrays:
            np.testing.assert_allclose(found.predictions[other], wanted.predictions[other], atol=1e-6)


def blank_steps(folder: Path) -> Path:
    """Write a log of ten steps whose camera is covered in steps 2 and 3, and whose depth is blind from step 7."""
    folder.mkdir()
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (10, 128, 128, 3), dtype=np.uint8)
    image[2:4] = 17
    depth = np.full((10, 128, 128, 1), 1.0, np.float32)
    depth[7:] = np.nan
    write_log(folder / "20190408_183040_triangle_0_journal_0_0_1000.h5", 10, image=image, depth_data=depth)
    return folder


def test_for_the_trainer_blank_steps_are_absent_from_logs_and_cache(tmp_path: Path) -> None:
    logs, modalities = blank_steps(tmp_path / "logs"), vision_touch_modalities()
    direct = read_samples(find_trajectories(logs), modalities)
    for _ in range(2):
        cached = read_logs(logs, modalities, DataConfiguration(), None, False, Console(quiet=True)).samples
        np.testing.assert_array_equal(cached.available, direct.available)
    assert np.flatnonzero(~direct.available[:, 0]).tolist() == [2, 3]
    assert np.flatnonzero(~direct.available[:, 1]).tolist() == [7, 8, 9]


def test_vectors_are_judged_by_the_scale_of_the_model(tmp_path: Path) -> None:
    logs, record = tmp_path / "logs", Vector(size=4, offset=(0.0,) * 4, scale=(1e-3,) * 4)
    logs.mkdir()
    action = np.zeros((10, 4))
    action[4] = 0.2
    write_log(logs / "20190408_183040_triangle_0_journal_0_0_1000.h5", 10, action=action)
    known = ACTION.model_copy(update={"preprocessing": record})
    for modality, absent in ((ACTION, [9]), (known, [3, 9])):
        found = read_samples(find_trajectories(logs), [RGB_, modality])
        # Action t + 1 belongs to sample t; the last sample has none.
        assert np.flatnonzero(~found.available[:, 1]).tolist() == absent


def test_a_cache_of_an_earlier_version_is_built_again_with_a_sentence(tmp_path: Path) -> None:
    logs, modalities = blank_steps(tmp_path / "logs"), vision_touch_modalities()
    console = Console(record=True, width=300)
    first = read_logs(logs, modalities, DataConfiguration(), None, False, console).samples
    (file,) = cache_folder(logs, modalities, None).glob("label-valid.*")
    assert "earlier version" not in console.export_text()
    file.unlink()
    again = read_logs(logs, modalities, DataConfiguration(), None, False, console).samples
    assert "earlier version" in console.export_text()
    np.testing.assert_array_equal(again.available, first.available)
    torch.testing.assert_close(again.batch(np.arange(10))[0], first.batch(np.arange(10))[0])
