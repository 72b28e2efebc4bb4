"""A file of a bag that holds the messages of another one once more is named, and read once."""

import shutil
from pathlib import Path

import pytest
import zstandard
from rosbags.rosbag2 import StoragePlugin

from smvae_ros.bags.reading import open_bag

from .made import Timed, joints, steady, write

PARTS = [steady(topic, 20, start_ms=start) for start in (0, 1000) for topic in ("/arm", "/hand")]


def split(folder: Path, *parts: list[Timed]) -> Path:
    """A bag of several files without metadata."""
    folder.mkdir()
    for number, messages in enumerate(parts):
        written = write(folder / "part", messages)
        (written / "part.mcap").rename(folder / f"bag_{number}.mcap")
        shutil.rmtree(written)
    return folder


def read(bag: Path) -> tuple[int, list[str], dict[str, int]]:
    with open_bag(bag, {"arm": "/arm", "hand": "/hand"}) as opened:
        return len(list(opened.messages())), opened.damage, dict(opened.recorded_messages)


@pytest.mark.parametrize("kind", ["bytes", "compressed", "another storage"])
def test_a_copy_of_a_part_is_read_once(kind: str, tmp_path: Path) -> None:
    bag = split(tmp_path / "bag", PARTS[0] + PARTS[1], PARTS[2] + PARTS[3])
    copy = bag / {"bytes": "bag_0 (copy).mcap", "compressed": "bag_2.mcap.zstd", "another storage": "bag_2.db3"}[kind]
    if kind == "bytes":
        shutil.copy(bag / "bag_0.mcap", copy)
    elif kind == "compressed":
        copy.write_bytes(zstandard.compress((bag / "bag_0.mcap").read_bytes()))
    else:
        written = write(tmp_path / "other", PARTS[0] + PARTS[1], StoragePlugin.SQLITE3)
        (written / "other.db3").rename(copy)
    count, damage, recorded = read(bag)
    first, second = sorted([copy.name, "bag_0.mcap"], key=lambda name: (name.startswith("bag_2"), name != copy.name))
    assert count == 80 and recorded == {"/arm": 40, "/hand": 40}
    assert f"{second}: holds the messages of {first} once more; they are read once" in damage


def test_a_copy_that_the_metadata_names_and_counts_is_read_once(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", PARTS[0] + PARTS[1])
    shutil.copy(bag / "bag.mcap", bag / "bag_1.mcap")
    text = (bag / "metadata.yaml").read_text().replace("- bag.mcap", "- bag.mcap\n  - bag_1.mcap")
    (bag / "metadata.yaml").write_text(text.replace("message_count: 20", "message_count: 40"))
    count, (damage,), recorded = read(bag)
    assert count == 40 and recorded == {"/arm": 20, "/hand": 20}, "nothing counts as missing"
    assert damage == "bag_1.mcap: holds the messages of bag.mcap once more; they are read once"


def test_parts_of_equal_length_and_empty_parts_are_no_copies(tmp_path: Path) -> None:
    moved = [(topic, at, joints(at, (0.5, 0.5))) for topic, at, _ in PARTS[0]]
    count, damage, _ = read(split(tmp_path / "bag", PARTS[0], moved, [], [], PARTS[3]))
    assert count == 60 and not any("once more" in sentence for sentence in damage)
