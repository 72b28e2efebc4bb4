"""Bags whose metadata.yaml does not tell what their files hold."""

from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin

from smvae_ros.bags.reading import open_bag

from .made import steady, write


@pytest.mark.parametrize("again", ["small_0.mcap", "./small_0.mcap", "link.mcap"])
def test_a_file_that_the_metadata_names_twice_is_read_once(again: str, tmp_path: Path) -> None:
    bag = write(tmp_path / "small", steady("/arm", 20) + steady("/hand", 20))
    (bag / "small.mcap").rename(bag / "small_0.mcap")
    (bag / "link.mcap").symlink_to(bag / "small_0.mcap")
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("- small.mcap", f"- small_0.mcap\n  - {again}"))
    with open_bag(bag, {"arm": "/arm", "hand": "/hand"}) as opened:
        assert len(list(opened.messages())) == 40
    (told,) = opened.damage
    assert told.startswith("small_0.mcap") and told.endswith("metadata.yaml names one file 2 times; it is read once")


@pytest.mark.parametrize("lost", ["message_count: 20", "- small.mcap"])
def test_files_of_which_the_metadata_knows_nothing_are_read(lost: str, tmp_path: Path) -> None:
    """A recorder that was killed may leave metadata of the time when the bag was empty."""
    bag = write(tmp_path / "small", steady("/arm", 20) + steady("/hand", 20))
    text = (bag / "metadata.yaml").read_text()
    assert lost in text
    less = text.replace(lost, "message_count: 0") if "count" in lost else text.replace(f"\n  {lost}", " []")
    (bag / "metadata.yaml").write_text(less)
    with open_bag(bag, {"arm": "/arm", "hand": "/hand"}) as opened:
        assert len(list(opened.messages())) == 40
    assert opened.damage == ["metadata.yaml names no file, or counts no message; the files are read without it"]


TIME = "{sec: 0, nsec: 0}"
QOS = (
    "{history: keep_last, depth: 10, reliability: reliable, durability: volatile, liveliness: automatic, "
    f"deadline: {TIME}, lifespan: {TIME}, liveliness_lease_duration: {TIME}, avoid_ros_namespace_conventions: false}}"
)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("message_count: 20", "message_count: 0"),
        ("name: /hand", "name: /foot"),
        ("offered_qos_profiles: []", f"offered_qos_profiles: [{QOS}]"),
    ],
    ids=["counts nothing", "lacks the topic", "has another QoS"],
)
def test_messages_that_the_metadata_tells_otherwise_of_are_read(
    words: str, instead: str, storage: StoragePlugin, tmp_path: Path
) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 20) + steady("/hand", 20), storage)
    text = (bag / "metadata.yaml").read_text()
    place = text.rindex(words)
    (bag / "metadata.yaml").write_text(text[:place] + instead + text[place + len(words) :])
    with open_bag(bag, {"arm": "/arm", "hand": "/hand"}) as opened:
        assert len(list(opened.messages())) == 40
    told = "metadata.yaml does not have its 20 messages as the files do; they are read without it"
    assert len(opened.damage) == 1 and opened.damage[0].endswith(told)
