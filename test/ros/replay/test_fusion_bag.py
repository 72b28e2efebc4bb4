"""Latents and predictions of a replay as a bag: what is in it, and that it plays beside the one that it came from."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from smvae_core.inference.engine import Engine
from smvae_core.modality import vision_touch_modalities
from smvae_ros.bags.reading import bag_hash, read_bag
from smvae_ros.conversions.arrays import raw_array, stamp_ns
from smvae_ros.conversions.bindings import IMAGE, JOINTS, TWIST, VECTOR, WRENCH, bind
from smvae_ros.replay.fusion_bag import LATENT, LATENT_DEFINITION, FusionBag
from smvae_ros.replay.inference import Judged
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.prepared import Prepared
from smvae_ros.replay.results_folder import ReplayError
from smvae_ros.replay.run import replay
from smvae_ros.synchronizer.set_synchronizer import SampleSet

from ..senses import SIX, THREE

ROOT = Path(__file__).parents[3]
STEPS = 21


@pytest.fixture(scope="module")
def out(bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a bag."""
    out = tmp_path_factory.mktemp("replay") / "out"
    replay(bag, out, ReplayJob(checkpoint, device="cpu", write_bag=True))
    return out


def messages(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    """By topic log times and messages, read by what the bag itself says of their types."""
    found = defaultdict(list)
    with AnyReader([bag]) as reader:
        for connection, log_ns, content in reader.messages():
            found[connection.topic].append((log_ns, reader.deserialize(content, connection.msgtype)))
    return found


def test_the_definition_is_the_packages_own() -> None:
    assert (ROOT / "msg" / "Latent.msg").read_text() == LATENT_DEFINITION


def test_it_holds_the_latent_of_each_set_with_its_stamp(out: Path) -> None:
    table = pq.read_table(out / "sets.parquet").to_pydict()
    latents = messages(out / "fusion")["/fusion/latent"]
    assert [log_ns for log_ns, _ in latents] == table["log_ns"]
    assert [stamp_ns(message) for _, message in latents] == table["stamp_ns"]
    np.testing.assert_array_equal([message.mean for _, message in latents], np.array(table["mean"], np.float32))
    np.testing.assert_array_equal(
        [message.log_variance for _, message in latents], np.array(table["log_variance"], np.float32)
    )
    first = latents[0][1]
    assert first.modalities == ["rgb", "depth", "force", "action"] and first.header.frame_id == "camera"
    assert first.attention.sum() == pytest.approx(1.0)


def test_it_holds_the_predictions_in_physical_units(out: Path, bag: Path, checkpoint: Path) -> None:
    table = pq.read_table(out / "sets.parquet").to_pydict()
    found = messages(out / "fusion")
    assert {topic: len(of_topic) for topic, of_topic in found.items()} == {
        "/fusion/latent": STEPS,
        "/fusion/predicted/rgb": STEPS,
        "/fusion/predicted/depth": STEPS,
        "/fusion/predicted/wrench": STEPS,
        "/fusion/predicted/action": STEPS,
    }
    engine = Engine.load(checkpoint, "cpu")
    bindings = {binding.modality.name: binding for binding in bind(engine.modalities, {})}
    for topic, name, frame in (("wrench", "force", "wrist"), ("action", "action", "base")):
        of_topic = [message for _, message in found[f"/fusion/predicted/{topic}"]]
        assert {message.header.frame_id for message in of_topic} == {frame}
        values = [raw_array(bindings[name], [message]).reshape(-1) for message in of_topic]
        np.testing.assert_allclose(values, table[f"predicted_{name}"], rtol=1e-5)
    with np.load(out / "pictures.npz") as pictures:
        for name in ("rgb", "depth"):
            images = [raw_array(bindings[name], [message]) for _, message in found[f"/fusion/predicted/{name}"]]
            difference = np.abs(np.stack(images).astype(float) - pictures[f"predicted_{name}_from_all"])
            assert difference.max() <= (1.0 if name == "rgb" else 1e-3)


def test_it_is_what_ros2_bag_play_takes_and_the_same_twice(
    out: Path, bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    about = yaml.safe_load((out / "fusion" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (about["version"], about["storage_identifier"], about["message_count"]) == (9, "mcap", 5 * STEPS)
    assert about["relative_file_paths"] == ["fusion.mcap"]
    with AnyReader([out / "fusion"]) as reader:
        latent = next(connection for connection in reader.connections if connection.msgtype == LATENT)
        assert "float32[] log_variance" in latent.msgdef.data and "MSG: std_msgs/Header" in latent.msgdef.data
    replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu", write_bag=True))
    assert bag_hash(tmp_path / "fusion") == bag_hash(out / "fusion")
    # And once more over what is there.
    replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu", write_bag=True))
    assert bag_hash(tmp_path / "fusion") == bag_hash(out / "fusion")
    # A replay without it leaves no older one, which would pass for its own.
    replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu"))
    assert not (tmp_path / "fusion").exists()


def test_latents_of_an_older_version_are_read_by_the_definition_in_their_bag(tmp_path: Path) -> None:
    older = LATENT_DEFINITION[: LATENT_DEFINITION.index("# How much memory")]
    types = get_typestore(Stores.ROS2_JAZZY)
    types.register(get_types_from_msg(older, LATENT))
    stamp = types.types["builtin_interfaces/msg/Time"](1, 5)
    header = types.types["std_msgs/msg/Header"](stamp, "camera")
    numbers = np.array([1.5, -2.0], np.float32)
    latent = types.types[LATENT](header, ["rgb"], numbers, numbers, np.ones(1, np.float32))
    with Writer(tmp_path / "older", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/fusion/latent", LATENT, typestore=types)
        writer.write(connection, 7, types.serialize_cdr(latent, LATENT))

    ((_, log_ns, stamp_ns, message),) = read_bag(tmp_path / "older", {"latent": "/fusion/latent"})
    assert (log_ns, stamp_ns, message.modalities, message.attention.tolist()) == (7, 1_000_000_005, ["rgb"], [1.0])
    np.testing.assert_array_equal(message.mean, numbers)
    # A field that the older version lacks is absent, not 0.
    assert not hasattr(message, "trust") and not hasattr(message, "attention_of_memory")


def test_a_folder_of_that_name_which_is_no_bag_is_left_alone(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "fusion" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu"))
    with pytest.raises(ReplayError, match="cannot be written"):
        replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu", write_bag=True))
    assert mine.exists()


@pytest.mark.parametrize("modalities", [SIX, THREE, vision_touch_modalities()], ids=["six", "three", "four"])
def test_every_message_that_can_bring_a_modality_can_be_written(modalities: Any, tmp_path: Path) -> None:
    chosen = {"joints": JOINTS} if any(modality.name == "joints" for modality in modalities) else {}
    bindings = bind(modalities, chosen)
    assert {binding.type for binding in bindings} <= {IMAGE, WRENCH, TWIST, JOINTS, VECTOR}
    zeros = {modality.name: np.zeros(modality.shape, np.float32) for modality in modalities}
    none = np.zeros(len(modalities), np.float32)
    judged = Judged(tuple(zeros), np.zeros(4, np.float32), np.zeros(4, np.float32), none, {}, none, none, zeros, {})
    sample_set, frames = SampleSet(5, 0, {}, "tick", 6, 7), {modalities[0].name: "eye"}
    prepared = Prepared(sample_set, {}, {}, {}, frames, joints={}, seconds=0.0, bag_seconds=None, in_full=True)
    with FusionBag(tmp_path / "bag", bindings) as written:
        written.write(prepared, judged)
    topics = {f"predicted {name}": f"/fusion/predicted/{'wrench' if name == 'force' else name}" for name in zeros}
    read = {name: (log, stamp, m) for name, log, stamp, m in read_bag(tmp_path / "bag", topics)}
    assert len(read) == len(modalities)
    for binding in bindings:
        log_ns, stamp, message = read[f"predicted {binding.modality.name}"]
        assert (log_ns, stamp) == (7, 5)
        binding.modality.to_model(raw_array(binding, [message]))
