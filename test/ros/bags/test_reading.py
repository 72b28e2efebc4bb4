"""Bags into messages: whoever wrote them and however they are packed; and one clear error for what is no bag."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from smvae_core.modality import vision_touch_modalities
from smvae_ros.bags.reading import BagError, find_bags, open_bag, read_bag
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import VECTOR, bind

RGB, DEPTH, FORCE, ACTION = bind(vision_touch_modalities(), {})
TOPICS = {"rgb": "/rgb/image", "depth": "/depth/image", "force": "/wrench", "action": "/action"}
STEPS = 21


def read(bag: Path, **changes: str) -> dict[str, list[tuple[int, Any]]]:
    messages = defaultdict(list)
    for modality, log_ns, stamp_ns, message in read_bag(bag, TOPICS | changes):
        assert log_ns == stamp_ns
        messages[modality].append((stamp_ns, message))
    return messages


def test_a_bag_in_sqlite3_reads_the_same(bag: Path, edited: Callable[..., Path]) -> None:
    def keep(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns, content

    copy = edited(bag, keep, plugin=StoragePlugin.SQLITE3)
    assert list(copy.glob("*.db3"))
    ours, theirs = read(copy), read(bag)
    for binding in (RGB, DEPTH, FORCE, ACTION):
        name = binding.modality.name
        assert [stamp for stamp, _ in ours[name]] == [stamp for stamp, _ in theirs[name]]
        some = [[message for _, message in messages[name]] for messages in (ours, theirs)]
        assert np.array_equal(raw_array(binding, some[0]), raw_array(binding, some[1]))


def test_a_bag_that_does_not_describe_its_messages_is_read_as_jazzys(bag: Path, edited: Callable[..., Path]) -> None:
    copy = edited(bag, lambda topic, number, log_ns, content: iter([(log_ns, content)]))
    (database,) = copy.glob("*.db3")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM message_definitions")
    connection.close()
    with pytest.raises(Exception, match="no type definitions"), AnyReader([copy]):
        pass
    assert len(read(copy)["rgb"]) == STEPS


def test_messages_come_in_the_order_of_their_log_times(bag: Path, edited: Callable[..., Path]) -> None:
    def jumble(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns + (number * 7919 % 13 - 6) * 10_000_000, content

    for plugin in StoragePlugin:
        copy = edited(bag, jumble, name=plugin.name, plugin=plugin)
        times = [log_ns for _, log_ns, _, _ in read_bag(copy, TOPICS)]
        assert times == sorted(times) and len(times) == STEPS * 53 - 1


def test_a_topic_may_feed_two_modalities(bag: Path) -> None:
    modalities = [modality for modality, *_ in read_bag(bag, {"left": "/rgb/image", "right": "/rgb/image"})]
    assert modalities == ["left", "right"] * STEPS


def test_a_topic_that_is_missing_or_of_another_type_is_named_with_what_there_is(bag: Path) -> None:
    with pytest.raises(
        BagError, match="expected messages on /camera/image, found /action .geometry_msgs/msg/TwistStamped, 20.,"
    ):
        next(read_bag(bag, TOPICS | {"rgb": "/camera/image"}))
    with pytest.raises(
        BagError, match="topic /wrench: expected sensor_msgs/msg/Image, found geometry_msgs/msg/WrenchStamped"
    ):
        next(read_bag(bag, {"rgb": "/wrench"}, {"rgb": ["sensor_msgs/msg/Image"]}))


def test_an_empty_topic_is_a_missing_one(bag: Path, edited: Callable[..., Path]) -> None:
    def silence(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        if topic != "/action":
            yield log_ns, content

    with pytest.raises(
        BagError, match="expected messages on /action, found /action .geometry_msgs/msg/TwistStamped, 0."
    ):
        next(read_bag(edited(bag, silence), TOPICS))


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "fake.mcap").write_text("hello")
    (tmp_path / "fake.db3").write_text("hello")
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "nested").mkdir()
    for name, found in (
        ("nothing", "no such bag"),
        ("nested", "expected a rosbag2 .a folder with metadata.yaml, .mcap or .db3., found: none of them"),
        ("notes.txt", "expected .mcap or .db3, found '.txt'"),
        ("fake.mcap", "fake.mcap: is cut off or damaged after 0 messages"),
        ("fake.db3", "file is not a database"),
        ("empty.mcap", "empty.mcap: is empty"),
    ):
        with pytest.raises(BagError, match=found):
            next(read_bag(tmp_path / name, TOPICS))


PACKED = [
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
]


@pytest.mark.parametrize(("plugin", "mode"), PACKED)
@pytest.mark.parametrize("described", [True, False], ids=["metadata", "no metadata"])
def test_a_bag_reads_the_same_however_it_is_packed_with_or_without_its_metadata(
    plugin: StoragePlugin, mode: CompressionMode, described: bool, bag: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    repacked(bag, copy, plugin, mode)
    if not described:
        (copy / "metadata.yaml").unlink()
    with open_bag(copy, TOPICS) as opened:
        stamps = [(modality, stamp) for modality, _, stamp, _ in opened.messages()]
        missing = [] if described else ["metadata.yaml is missing: the recorder did not come to its end"]
        assert opened.damage == missing
        assert opened.recorded_seconds == (pytest.approx(STEPS * 0.05 - 0.001) if described else None)
    assert sorted(stamps) == sorted((modality, stamp) for modality, _, stamp, _ in read_bag(bag, TOPICS))


def repacked(bag: Path, out: Path, plugin: StoragePlugin, mode: CompressionMode, **options: Any) -> None:
    with AnyReader([bag]) as reader:
        writer = Writer(out, version=9, storage_plugin=plugin)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections = {
                c.topic: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore, **options)
                for c in reader.connections
            }
            for connection, log_ns, content in reader.messages():
                writer.write(connections[connection.topic], log_ns, content)


@pytest.mark.parametrize("version", [4, 5, 6, 7, 8])
def test_bags_of_earlier_releases_are_read(version: int, bag: Path, tmp_path: Path) -> None:
    """Humble writes version 5: no hash of a type, no definitions, no distribution; Iron 6, and so on."""
    copy = tmp_path / "copy"
    repacked(bag, copy, StoragePlugin.SQLITE3, CompressionMode.NONE)
    content = yaml.safe_load((copy / "metadata.yaml").read_text())
    about = content["rosbag2_bagfile_information"]
    about["version"] = version
    if version < 8:
        del about["ros_distro"]
    if version < 6:
        del about["custom_data"]
    if version < 5:
        del about["files"]
    for topic in about["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = ""
        if version < 7:
            del topic["topic_metadata"]["type_description_hash"]
    (copy / "metadata.yaml").write_text(yaml.safe_dump(content))
    if version < 7:
        with sqlite3.connect(copy / "copy.db3") as database:
            database.executescript(
                "DROP TABLE schema; DROP TABLE metadata; DROP TABLE message_definitions;"
                "ALTER TABLE topics DROP COLUMN type_description_hash; UPDATE topics SET offered_qos_profiles = '';"
            )
        database.close()
    assert {name: len(messages) for name, messages in read(copy).items()} == {
        name: len(messages) for name, messages in read(bag).items()
    }


def test_two_publishers_on_a_topic_are_seen(bag: Path, tmp_path: Path) -> None:
    forever = QosTime(0, 0)
    qos = Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE,
        QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
    for plugin in StoragePlugin:
        copy = tmp_path / plugin.name
        repacked(bag, copy, plugin, CompressionMode.NONE, offered_qos_profiles=[qos, qos])
        with open_bag(copy, TOPICS) as opened:
            assert opened.publishers == dict.fromkeys(TOPICS, 2)
    with open_bag(bag, TOPICS) as opened:
        assert opened.publishers == dict.fromkeys(TOPICS, 1)


def test_a_type_of_the_robots_own_is_read_as_the_bag_describes_it(bag: Path, tmp_path: Path) -> None:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg("float64 sound", "lab_msgs/msg/Sonar"))
    store.register(get_types_from_msg("float64 sound", VECTOR))
    jazzy = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([bag]) as reader, Writer(tmp_path / "sonar", version=9) as writer:
        sonar = writer.add_connection("/sonar", "lab_msgs/msg/Sonar", typestore=store)
        ours = writer.add_connection("/tactile", VECTOR, typestore=store)
        rgb = writer.add_connection("/rgb/image", "sensor_msgs/msg/Image", typestore=jazzy)
        for connection, log_ns, content in reader.messages():
            if connection.topic == "/rgb/image":
                writer.write(rgb, log_ns, content)
                writer.write(sonar, log_ns, b"\0\1\0\0" + 8 * b"\0")
                writer.write(ours, log_ns, b"\0\1\0\0" + 8 * b"\0")
    assert len(list(read_bag(tmp_path / "sonar", {"rgb": "/rgb/image"}))) == STEPS
    sonar_messages = list(read_bag(tmp_path / "sonar", {"sonar": "/sonar"}))
    assert len(sonar_messages) == STEPS
    assert {(stamp, message.sound) for _, _, stamp, message in sonar_messages} == {(0, 0.0)}, (
        "without a header, no stamp"
    )
    with pytest.raises(BagError, match=f"/tactile: expected {VECTOR} as it is defined here, found another of the name"):
        next(read_bag(tmp_path / "sonar", {"tactile": "/tactile"}, {"tactile": [VECTOR]}))
    with sqlite3.connect(tmp_path / "sonar" / "sonar.db3") as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    assert len(list(read_bag(tmp_path / "sonar", {"rgb": "/rgb/image"}))) == STEPS
    with pytest.raises(
        BagError, match="/sonar: expected a type of ROS 2's .*, or one that the bag describes, found lab"
    ):
        next(read_bag(tmp_path / "sonar", {"sonar": "/sonar"}))


def test_bags_are_found_in_folders(tmp_path: Path) -> None:
    for name in (
        "day/b/metadata.yaml",
        "day/b/b_0.mcap",
        "day/a/a_0.db3",
        "day/a/a_1.db3",
        "day/loose/x.mcap",
        "day/loose/y.mcap.zstd",
        "day/notes.txt",
        "day/.hidden/z.mcap",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_bags(tmp_path)]
    assert found == ["day/a", "day/b", "day/loose/x.mcap", "day/loose/y.mcap.zstd"]
    assert find_bags(tmp_path / "day" / "a") == [tmp_path / "day" / "a"]
    assert find_bags(tmp_path / "day" / "loose" / "x.mcap") == [tmp_path / "day" / "loose" / "x.mcap"]
