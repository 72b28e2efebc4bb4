"""Bags that were cut off, damaged or left without an index are read as far as they go, and say so."""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from smvae_core.errors import SMVAEError
from smvae_ros.bags.reading import BagError, find_bags, open_bag, read_bag

from .made import steady, write

TOPICS = {"force": "/wrench", "action": "/action"}

Stamps = list[tuple[str, int]]


def stamps(bag: Path) -> tuple[Stamps, list[str]]:
    """Modality and stamp of each message, and the damage."""
    with open_bag(bag, TOPICS) as opened:
        found = [(modality, stamp) for modality, _, stamp, _ in opened.messages()]
        return found, opened.damage


@pytest.fixture(scope="module")
def small(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bag's forces and commands as one MCAP file of many chunks."""
    out = tmp_path_factory.mktemp("small") / "small.mcap"
    write_mcap(bag, out)
    return out


def write_mcap(bag: Path, out: Path, order: int = 1, later_ns: int = 0, **options: object) -> None:
    options = {"chunk_size": 4000, "compression": CompressionType.ZSTD} | options
    with AnyReader([bag]) as reader, out.open("wb") as stream:
        writer = McapWriter(stream, **options)
        writer.start(profile="ros2")
        chosen = [connection for connection in reader.connections if connection.topic in TOPICS.values()]
        channels = {
            c.topic: writer.register_channel(
                c.topic, "cdr", writer.register_schema(c.msgtype, "ros2msg", c.msgdef.data.encode())
            )
            for c in chosen
        }
        for connection, log_ns, content in list(reader.messages(chosen))[::order]:
            writer.add_message(channels[connection.topic], log_ns + later_ns, bytes(content), log_ns)
        writer.finish()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0.0, 0.9999))
def test_a_cut_off_mcap_is_read_to_the_cut(small: Path, tmp_path: Path, kept: float) -> None:
    whole, none = stamps(small)
    assert not none and len(whole) == 1070
    content = small.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[: int(kept * len(content))])
    try:
        found, damage = stamps(cut)
    except BagError as error:
        # Before the first chunk was whole.
        assert kept < 0.1 and "cut.mcap" in str(error)
        return
    assert found == whole[: len(found)]
    assert len(found) >= (kept - 0.1) * len(whole)
    assert len(damage) == 1 and damage[0].startswith("cut.mcap: is cut off or damaged after")


# The last pages may hold nothing but the index of time.
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.9])
def test_a_cut_off_database_is_read_to_the_cut(
    bag: Path, edited: Callable[..., Path], tmp_path: Path, kept: float
) -> None:
    copy = edited(bag, only_numbers)
    whole, _ = stamps(copy)
    content = (copy / "edited.db3").read_bytes()
    (copy / "edited.db3").write_bytes(content[: int(kept * len(content))])
    found, damage = stamps(copy)
    assert found == whole[: len(found)]
    assert len(found) >= (kept - 0.2) * len(whole)
    assert "edited.db3: is cut off or damaged after" in damage[-1]


def only_numbers(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    if topic in TOPICS.values():
        yield log_ns, content


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.NONE, "use_statistics": False, "use_summary_offsets": False},
        {"use_chunking": False, "index_types": IndexType.NONE, "use_statistics": False},
    ],
    ids=["chunks", "no chunks"],
)
def test_an_mcap_without_an_index_is_read_in_order(
    options: dict[str, object], small: Path, bag: Path, tmp_path: Path
) -> None:
    write_mcap(bag, tmp_path / "plain.mcap", order=-1, **options)
    found, damage = stamps(tmp_path / "plain.mcap")
    whole, _ = stamps(small)
    assert sorted(found) == sorted(whole) and not damage
    assert [stamp for _, stamp in found] == sorted(stamp for _, stamp in found)


def test_what_a_killed_recorder_left_in_the_write_ahead_log_is_read(
    bag: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    copy = edited(bag, only_numbers)
    whole, _ = stamps(copy)
    left = tmp_path / "left"
    left.mkdir()
    database = sqlite3.connect(copy / "edited.db3")
    database.execute("PRAGMA journal_mode=WAL")
    messages = database.execute("SELECT * FROM messages ORDER BY id").fetchall()
    database.execute("DELETE FROM messages WHERE id > 500")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", messages[500:])
    database.commit()
    for name in ("edited.db3", "edited.db3-wal"):
        shutil.copy(copy / name, left / name.replace("edited", "left"))
    database.close()
    assert (left / "left.db3-wal").stat().st_size > 10_000
    found, damage = stamps(left)
    assert found == whole
    assert damage == ["metadata.yaml is missing: the recorder did not come to its end"]
    log = left / "left.db3-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    found, damage = stamps(left)
    assert len(found) == 500 and "pages of its write-ahead log are cut off or not committed" in damage[1]


def test_a_bag_in_parts_goes_on_behind_a_damaged_one(bag: Path, small: Path, tmp_path: Path) -> None:
    whole, _ = stamps(small)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in (0, 10):
        write_mcap(bag, folder / f"parts_{number}.mcap", later_ns=number)
    (folder / "parts_2.mcap").write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    (folder / "parts_1.mcap").write_bytes(b"")
    found, damage = stamps(folder)
    assert found[: len(whole)] == whole == found[-len(whole) :]
    assert len(whole) * 2.3 < len(found) < len(whole) * 2.7
    assert [sentence.split(":")[0] for sentence in damage] == [
        "metadata.yaml is missing",
        "parts_1.mcap",
        "parts_2.mcap",
    ]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("compression", CompressionType)
def test_a_damaged_chunk_is_left_out_and_those_behind_it_are_read(
    compression: CompressionType, indexed: bool, bag: Path, tmp_path: Path
) -> None:
    whole_file, file = tmp_path / "whole.mcap", tmp_path / "hole.mcap"
    write_mcap(bag, whole_file, compression=compression)
    whole, _ = stamps(whole_file)
    content = bytearray(whole_file.read_bytes())
    with whole_file.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None
        chunks = summary.chunk_indexes
    middle = chunks[len(chunks) // 2].chunk_start_offset + chunks[len(chunks) // 2].chunk_length // 2
    content[middle : middle + 100] = bytes(100)
    # The index stands behind the last chunk.
    file.write_bytes(content if indexed else content[: chunks[-1].chunk_start_offset + chunks[-1].chunk_length])
    found, damage = stamps(file)
    assert 0 < len(whole) - len(found) < len(whole) / 8 and found[-1] == whole[-1] and found[0] == whole[0]
    (sentence,) = damage
    assert sentence.startswith(f"hole.mcap: 1 of {len(chunks)} chunks are damaged and left out (")
    assert indexed or f"; is cut off or damaged after {len(found)} messages (" in sentence
    if indexed:
        with open_bag(file, TOPICS) as opened:
            assert sum(opened.recorded_messages[topic] for topic in TOPICS.values()) == len(whole), "the index counts"


def test_a_damaged_first_chunk_does_not_take_along_what_its_channels_bring_later(bag: Path, tmp_path: Path) -> None:
    whole_file, file = tmp_path / "whole.mcap", tmp_path / "hole.mcap"
    write_mcap(bag, whole_file, index_types=IndexType.NONE, repeat_channels=True)
    whole, _ = stamps(whole_file)
    content = bytearray(whole_file.read_bytes())
    content[150:250] = bytes(100)
    file.write_bytes(content)
    found, (sentence,) = stamps(file)
    assert found and whole[-len(found) :] == found and len(whole) - len(found) < len(whole) / 8
    assert sentence.startswith("hole.mcap: 1 of ")
    file.write_bytes(content[: len(content) // 2])  # without what stands at the end, the later messages have no topic
    with pytest.raises(BagError, match="messages are left out, because the description of their topic is damaged"):
        stamps(file)


def test_a_file_that_the_metadata_does_not_name_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    write(folder, steady("/arm", 10))
    shutil.copy(folder / "bag.mcap", folder / "bag_1.mcap")
    with open_bag(folder, {"arm": "/arm"}) as opened:
        assert len(list(opened.messages())) == 10
        assert opened.damage == ["bag_1.mcap: is not read, because metadata.yaml does not name it"]


@pytest.mark.parametrize("change", ["data = NULL", "data = 'text'", "timestamp = NULL", "timestamp = 'soon'"])
def test_a_row_of_a_database_that_is_no_message_is_damaged(change: str, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 20) + steady("/hand", 20), StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        database.execute("CREATE TABLE other AS SELECT * FROM messages")  # without NOT NULL
        database.execute("DROP TABLE messages")
        database.execute("ALTER TABLE other RENAME TO messages")
        database.execute(f"UPDATE messages SET {change} WHERE id = 5")
    with open_bag(bag, {"arm": "/arm", "hand": "/hand"}) as opened:
        assert len(list(opened.messages())) == 39 and opened.damaged.total() == 1
    assert "expected a receive time and bytes" in opened.damage[0]


def test_a_damaged_message_is_left_out_and_counted(bag: Path, edited: Callable[..., Path]) -> None:
    def damage(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        for kept in only_numbers(topic, number, log_ns, content):
            yield (log_ns, content[:30]) if topic == "/action" and number in (3, 4) else kept

    found, told = stamps(edited(bag, damage))
    assert len(found) == 1068
    assert len(told) == 1 and told[0].startswith("/action: 2 messages are damaged (")


def test_flipped_bits_give_messages_or_one_clear_error(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    random = np.random.default_rng(0)
    told = 0
    for place in random.integers(0, len(whole), 40):
        content = bytearray(whole)
        content[place] ^= 1 << int(random.integers(8))
        (tmp_path / "flipped.mcap").write_bytes(content)
        try:
            _, damage = stamps(tmp_path / "flipped.mcap")
            told += bool(damage)
        except SMVAEError as error:
            told += 1
            assert str(error)
    assert told > 20


def test_a_bag_of_which_nothing_can_be_read_says_what_is_wrong(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.mcap").write_bytes(small.read_bytes()[:500])
    with pytest.raises(
        BagError, match=r"cut.mcap: expected a rosbag2 .*found: cut.mcap: is cut off or damaged after 0"
    ):
        next(read_bag(tmp_path / "cut.mcap", TOPICS))


def test_temporary_files_are_gone_afterwards(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "cut.mcap").write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    stamps(tmp_path / "cut.mcap")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_bag_that_may_not_be_read_says_so(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(small.parent, tmp_path / "mine")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for module in ("reading", "repair"):
        monkeypatch.setattr(f"smvae_ros.bags.{module}.storage_files", refuse)
    assert find_bags(folder) == [folder]
    with pytest.raises(BagError, match=r"mine: cannot be read \(Permission denied\)"):
        stamps(folder)


def test_a_full_disk_for_what_is_unpacked_is_no_damage(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(small.read_bytes()[:-2000])

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("smvae_ros.bags.repair.Writer.add_message", fill)
    with pytest.raises(BagError, match=r"cut.mcap: cannot be read \(No space left on device in .*TMPDIR"):
        stamps(cut)
