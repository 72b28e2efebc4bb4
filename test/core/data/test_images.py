"""MNIST's files, CelebA and folders of pictures become samples like those of logs; damaged ones are named."""

import gzip
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rich.console import Console

from smvae_core.configuration import DataConfiguration
from smvae_core.data.formats.pictures import ATTRIBUTES
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.data.splits import split_as_given
from smvae_core.image_variants import LOOKS, looked_at
from smvae_core.modality import Modality
from smvae_core.preprocessing import Grey
from smvae_core.reproduce.experiments import EXPERIMENTS

from ..made_data import write_faces, write_idx, write_pictures

PICTURES = arrays.arrays(np.uint8, (32, 32, 3))


def read(data: Path, form: str, experiment: str, skip_bad: bool = False) -> Samples:
    modalities = EXPERIMENTS[experiment].modalities(form, data)
    configuration = DataConfiguration(format=form)
    return read_logs(data, modalities, configuration, data / "cache", skip_bad, Console(quiet=True)).samples


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_give_images_and_one_hot_labels_split_as_given(tmp_path, zipped):
    samples = read(write_idx(tmp_path / "data", zipped=zipped), "idx", "mnist")
    training, unseen = split_as_given(samples, 0.3, 0)
    assert (len(training), len(unseen)) == (40, 20)
    batch, available = unseen.batch(np.arange(20))
    assert available.all()
    assert batch["image"].shape == (20, 1, 28, 28)
    assert batch["image"].max() == pytest.approx(200 / 255)
    assert (batch["label"].sum(dim=1) == 1).all()
    bright = batch["image"][:, 0, :, 0].argmax(dim=1)
    assert torch.equal(bright, 2 * batch["label"].argmax(dim=1))


def broken_idx(folder: Path) -> dict[str, tuple[Path, bytes]]:
    images = folder / "train-images-idx3-ubyte"
    labels = folder / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    return {
        "no such file": (labels, b""),
        "begins with 0x00000803": (images, struct.pack(">4I", 0x801, 40, 28, 28) + whole[16:]),
        "bytes after the head": (images, whole[:-1]),
        "damaged one": (images, gzip.compress(whole)[:-20]),
        "found 0 bytes": (images, b""),
        "found 6 bytes": (images, whole[:6]),
        "expected 40 labels": (labels, struct.pack(">2I", 0x801, 39) + bytes(39)),
        "labels below 10": (labels, struct.pack(">2I", 0x801, 40) + bytes([10] * 40)),
    }


@pytest.mark.parametrize(
    "told",
    [
        "no such file",
        "begins with 0x00000803",
        "bytes after the head",
        "damaged one",
        "found 0 bytes",
        "found 6 bytes",
        "expected 40 labels",
        "labels below 10",
    ],
)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(tmp_path, told):
    folder = write_idx(tmp_path / "data", zipped=False)
    path, content = broken_idx(folder)[told]
    path.unlink() if told == "no such file" else path.write_bytes(content)
    with pytest.raises(LogError, match=told) as error:
        read(folder, "idx", "mnist")
    assert path.name in str(error.value)


def test_faces_come_as_central_squares_with_their_eighteen_attributes(tmp_path):
    samples = read(write_faces(tmp_path / "celeba"), "celeba", "celeba")
    training, unseen = split_as_given(samples, 0.3, 0)
    assert (len(training), len(unseen)) == (27, 3)
    batch, _ = samples.batch(np.arange(30))
    assert batch["image"].shape == (30, 3, 64, 64)
    assert torch.equal(batch["attributes"].argmax(dim=1), torch.arange(30) % 18)
    assert (batch["attributes"].sum(dim=1) == 1).all()
    # The disc is round: what was cut is as much on either side, and nothing was squeezed.
    disc = batch["image"][0].mean(dim=0) > 0.7
    assert abs(int(disc.any(dim=0).sum()) - int(disc.any(dim=1).sum())) <= 1


def test_the_partition_of_celeba_is_kept_where_it_is_there(tmp_path):
    samples = read(write_faces(tmp_path / "celeba", partition=True), "celeba", "celeba")
    training, unseen = split_as_given(samples, 0.3, 0)
    assert (len(training), len(unseen)) == (10, 10)
    assert torch.equal(
        unseen.batch(np.arange(10))[0]["attributes"].argmax(dim=1), torch.arange(2, 30, 3) % len(ATTRIBUTES)
    )


def test_line_ends_blank_lines_and_the_order_of_columns_do_not_matter(tmp_path):
    folder = write_faces(tmp_path / "celeba", partition=True)
    before = read(folder, "celeba", "celeba").batch(np.arange(20))[0]["attributes"]
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        path = folder / name
        count, *lines = path.read_text().splitlines()
        if "attr" in name:
            lines = [" ".join([*words[:start], *reversed(words[start:])]) for start, words in turned(lines)]
        path.write_bytes("\r\n".join([count, *lines, "", ""]).encode())
    assert torch.equal(read(folder, "celeba", "celeba").batch(np.arange(20))[0]["attributes"], before)


def turned(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Words of each line, and how many at its start are no column."""
    yield 0, lines[0].split()
    yield from ((1, line.split()) for line in lines[1:])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list_attr_celeba.txt", b"\xff\xfe\x00", "expected text"),
        ("list_eval_partition.txt", b"\xff\xfe\x00", "expected text"),
        (
            "list_eval_partition.txt",
            b"000001.jpg 0\nlonely\n",
            "line 2: expected a file name and 0, 1 or 2, found 'lonely'",
        ),
        ("list_eval_partition.txt", b"000001.jpg 7\n", "line 1: .* found '000001.jpg 7'"),
    ],
)
def test_a_damaged_list_of_celeba_is_told_once(tmp_path, name, content, told):
    folder = write_faces(tmp_path / "celeba", count=6)
    (folder / name).write_bytes(content)
    with pytest.raises(LogError, match=rf"{name}: {told}") as error:
        read(folder, "celeba", "celeba")
    assert "\n" not in str(error.value)


def test_an_attribute_file_that_does_not_fit_is_named_with_its_line(tmp_path):
    folder = write_faces(tmp_path / "celeba")
    path = folder / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4].replace("-1", "0", 1), *lines[5:]]))
    with pytest.raises(LogError, match=r"list_attr_celeba.txt: line 5: expected .* -1 or 1"):
        read(folder, "celeba", "celeba")
    path.write_text("\n".join([lines[0], lines[1].replace("Smiling", "Grinning"), *lines[2:]]))
    with pytest.raises(LogError, match="line 2: .*Smiling"):
        read(folder, "celeba", "celeba")
    path.unlink()
    with pytest.raises(LogError, match="no such file"):
        read(folder, "celeba", "celeba")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_picture_is_named_and_can_be_left_out(tmp_path, suffix):
    folder = write_pictures(tmp_path / "pictures")
    path = folder / f"bad{suffix}"
    cv2.imwrite(str(path), cv2.imread(str(folder / "000001.jpg")))
    assert len(read(folder, "pictures", "vision")) == 13
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(LogError, match=rf"bad{suffix}: expected a whole picture"):
        read(folder, "pictures", "vision")
    assert len(read(folder, "pictures", "vision", skip_bad=True)) == 12


def test_a_picture_with_too_many_pixels_is_named_and_can_be_left_out(tmp_path):
    folder = write_pictures(tmp_path / "pictures")
    content = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    content[16:24] = struct.pack(">2I", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / "huge.png").write_bytes(content)
    with pytest.raises(LogError, match=r"huge.png: expected a picture that OpenCV can decode"):
        read(folder, "pictures", "vision")
    assert len(read(folder, "pictures", "vision", skip_bad=True)) == 12


def test_hidden_files_are_no_pictures(tmp_path):
    folder = write_pictures(tmp_path / "pictures")
    (folder / "._000001.jpg").write_bytes(b"\x00\x05\x16\x07")
    assert len(read(folder, "pictures", "vision")) == 12


def test_what_stands_beside_a_picture_is_read_again_when_it_changes(tmp_path):
    digits = write_idx(tmp_path / "digits", zipped=False)
    before = read(digits, "idx", "mnist").batch(np.arange(40))[0]
    (digits / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 40) + bytes([3] * 40))
    after = read(digits, "idx", "mnist").batch(np.arange(40))[0]
    assert torch.equal(before["image"], after["image"])
    assert (after["label"].argmax(dim=1) == 3).all()

    masked = write_pictures(tmp_path / "masked", masks=5)
    assert read(masked, "pictures", "vision").available[:, -1].sum() == 5
    for number in range(6, 13):
        shutil.copy(masked / "masks" / "000001.png", masked / "masks" / f"{number:06d}.png")
    assert read(masked, "pictures", "vision").available[:, -1].sum() == 12

    faces = write_faces(tmp_path / "faces", count=6)
    read(faces, "celeba", "celeba")
    path = faces / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("-1", " 1"))
    assert read(faces, "celeba", "celeba").batch(np.arange(6))[0]["attributes"].all()


def test_pictures_give_six_modalities_where_there_are_masks_and_five_elsewhere(tmp_path):
    plain, masked = write_pictures(tmp_path / "plain"), write_pictures(tmp_path / "masked", masks=5)
    assert [m.name for m in read(plain, "pictures", "vision").modalities] == [
        "rgb",
        "grey",
        "edges",
        "occluded",
        "watermarked",
    ]
    samples = read(masked, "pictures", "vision")
    column = [m.name for m in samples.modalities].index("mask")
    assert samples.available[:, column].sum() == 5
    assert samples.available.sum() == 12 * 5 + 5
    batch, _ = samples.batch(np.flatnonzero(samples.available[:, column]))
    assert batch["grey"][batch["mask"] > 0.9].mean() > 0.85
    assert batch["grey"][batch["mask"] < 0.1].mean() < 0.6


def test_the_pictures_of_logs_give_the_looks_too(shared_logs, tmp_path):
    modalities = EXPERIMENTS["vision"].modalities("logs", shared_logs)
    samples = read_logs(shared_logs, modalities, DataConfiguration(), tmp_path, False, Console(quiet=True)).samples
    batch, available = samples.batch(np.arange(4))
    assert available.all()
    assert torch.equal(batch["occluded"][..., :32], batch["rgb"][..., :32])
    assert not batch["occluded"][..., 32:].any()


@given(PICTURES)
def test_what_looks_keep_of_a_picture(picture):
    looks = {name: look(picture) for name, look in LOOKS.items()}
    assert all(x.dtype == np.uint8 and x.shape[:2] == picture.shape[:2] for x in looks.values())
    assert set(np.unique(looks["edges"])) <= {0, 255}
    assert np.array_equal(looks["occluded"][:, :16], picture[:, :16])
    assert not looks["occluded"][:, 16:].any()
    # A watermark brightens, and only where its letters are.
    letters = LOOKS["watermarked"](np.zeros_like(picture)) > 0
    assert (looks["watermarked"] >= picture).all()
    assert np.array_equal(looks["watermarked"][~letters], picture[~letters])
    assert 0.02 < letters.mean() < 0.5
    assert np.array_equal(LOOKS["grey"](np.repeat(looks["grey"], 3, axis=2)), looks["grey"])


def test_edges_are_where_brightness_changes():
    picture = np.zeros((32, 32, 3), np.uint8)
    assert not LOOKS["edges"](picture).any()
    picture[:, 16:] = 255
    columns = np.flatnonzero(LOOKS["edges"](picture)[..., 0].any(axis=0))
    assert set(columns) <= {15, 16}
    assert len(columns) > 0


@given(st.integers(5, 70), st.integers(5, 70))
def test_looks_are_taken_at_the_size_of_the_model(height, width):
    found = looked_at("image.edges", np.zeros((2, height, width, 3), np.uint8), 32)
    assert found.shape == (2, 32, 32, 1)


def test_a_grey_image_goes_to_model_units_and_back():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    record = Grey(size=8)
    assert np.array_equal(record.invert(record.apply(image)), np.repeat(image[..., None], 3, axis=2))
    modality = Modality(name="mask", source="mask", preprocessing=record, network="flat_image", likelihood="bernoulli")
    with pytest.raises(Exception, match=r"mask: expected a grey uint8 image \(H, W\), found float64"):
        modality.to_model(image.astype(float))
