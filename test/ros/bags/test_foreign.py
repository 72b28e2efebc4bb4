"""Channels and bags that hold no ROS 2 messages: named and left out, never an error of another kind."""

from pathlib import Path

import pytest

from smvae_ros.bags.contents import contents_of
from smvae_ros.bags.naming import named_bags
from smvae_ros.bags.reading import BagError, find_bags, open_bag
from smvae_ros.demo.player import read_piece
from smvae_ros.replay.to_logs import write_logs

from ..command import smvae
from .made import ARM, HAND, settings, steady, write, write_mixed

TOPICS = {"arm": "/arm", "hand": "/hand"}
PROTOBUF = b"\x0a\xffnot text\xfe"
FOREIGN = {
    "json": ("jsonschema", b'{"type": "object"}', "json"),
    "protobuf": ("protobuf", PROTOBUF, "protobuf"),
    "ros1": ("ros1msg", b"float64 x", "ros1"),
    "flatbuffer": ("flatbuffer", PROTOBUF, "flatbuffer"),
    "schemaless": ("", b"", "json"),
    "unheard of": ("lab-format", b"", "lab"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_channel_is_named_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    messages = steady("/arm", 10) + steady("/hand", 10)
    bag = write_mixed(tmp_path / "mixed.mcap", messages, {"/other": FOREIGN[kind]})
    with open_bag(bag, TOPICS) as opened:
        assert len(list(opened.messages())) == 20
        (channel,) = opened.foreign
        assert channel.startswith("/other (") and opened.foreign[channel] == 20
        assert not opened.damage, "a channel of another kind is no damage"


def test_a_description_that_is_no_text_does_not_matter_to_other_topics(tmp_path: Path) -> None:
    other = {"/other": ("ros2msg", PROTOBUF, "cdr")}
    bag = write_mixed(tmp_path / "mixed.mcap", steady("/arm", 10) + steady("/hand", 10), other)
    with open_bag(bag, TOPICS) as opened:
        assert len(list(opened.messages())) == 20
    with pytest.raises(BagError, match="topic /other: expected .* found lab.Other"), open_bag(bag, {"arm": "/other"}):
        pass


@pytest.mark.parametrize("description", [b"lab/Other inner", b"lab/Missing inner", b"float64[[ x"])
def test_a_description_that_is_not_whole_leaves_its_type_unknown(description: bytes, tmp_path: Path) -> None:
    """A type that holds itself, one that holds a type nobody describes, and one that cannot be understood."""
    other = {"/other": ("ros2msg", description, "cdr")}
    bag = write_mixed(tmp_path / "mixed.mcap", steady("/arm", 10) + steady("/hand", 10), other)
    with open_bag(bag, TOPICS) as opened:
        assert len(list(opened.messages())) == 20
    assert not contents_of(bag).topics["/other"].described
    with pytest.raises(BagError, match="topic /other: expected a type of ROS 2's"), open_bag(bag, {"arm": "/other"}):
        pass


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_channel_that_is_needed_is_refused_by_its_encoding(kind: str, tmp_path: Path) -> None:
    bag = write_mixed(tmp_path / "mixed.mcap", steady("/hand", 10), {"/arm2": FOREIGN[kind]})
    with (
        pytest.raises(BagError, match=r"expected messages on /arm2, found .*/arm2 \(\S+.*\)"),
        open_bag(bag, TOPICS | {"arm": "/arm2"}),
    ):
        pass


def test_a_bag_of_foreign_channels_alone_tells_what_it_holds(tmp_path: Path) -> None:
    bag = write_mixed(tmp_path / "other.mcap", [], {"/other": FOREIGN["protobuf"]})
    with pytest.raises(BagError, match="other.mcap: holds no messages"), open_bag(bag, TOPICS):
        pass


def test_logs_name_the_channels_that_were_left_out(tmp_path: Path) -> None:
    messages = steady("/arm", 10) + steady("/hand", 10)
    bag = write_mixed(tmp_path / "mixed.mcap", messages, {"/other": FOREIGN["json"]})
    account = write_logs(bag, [ARM, HAND], settings(), tmp_path / "logs").account
    assert account.foreign == {"/other (jsonschema)": 20} and account.rows == 10
    assert not account.losses()


def test_a_ros_1_bag_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    old = tmp_path / "bags" / "old.bag"
    old.parent.mkdir()
    old.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    write(tmp_path / "bags" / "new", steady("/arm", 10) + steady("/hand", 10))
    assert find_bags(old.parent) == [old.parent / "new", old], "a folder of bags does not leave it out in silence"
    with (
        pytest.raises(BagError, match="bag of ROS 1; convert it: rosbags-convert --src old.bag --dst old"),
        open_bag(old, TOPICS),
    ):
        pass
    assert list(named_bags([old.parent])) == ["new", "old"]
    done = smvae("log", old, "--out", tmp_path / "logs")
    assert done.returncode == 2 and "rosbags-convert" in done.stderr and "Traceback" not in done.stderr


def test_missing_files_of_a_split_bag_are_named(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 10) + steady("/hand", 10))
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("- bag.mcap", "- bag.mcap\n  - bag_1.mcap"))
    with open_bag(bag, TOPICS) as opened:
        assert len(list(opened.messages())) == 20
        assert opened.damage == ["bag_1.mcap: is missing"]
    (bag / "bag.mcap").rename(bag / "bag_2.mcap")
    with open_bag(bag, TOPICS) as opened:
        assert opened.damage == ["bag.mcap: is missing", "bag_1.mcap: is missing"]
    (bag / "metadata.yaml").unlink()
    (bag / "bag_2.mcap").rename(bag / "bag_1.mcap")
    with open_bag(bag, TOPICS) as opened:
        assert len(list(opened.messages())) == 20
        assert opened.damage[0].endswith("did not come to its end; of its files number 0 is missing")


def test_the_demo_names_the_channels_that_it_leaves_out(tmp_path: Path) -> None:
    bag = write_mixed(tmp_path / "mixed.mcap", steady("/arm", 10), {"/other": FOREIGN["json"]})
    told: list[str] = []
    assert len(read_piece(bag, {"arm": "/arm"}, 0.0, 10.0, told.append)) == 10
    assert told == ["/other (jsonschema) was left out: no ROS 2 messages"]
