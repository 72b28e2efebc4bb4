"""Cameras that come compressed: the node fuses them live, and bags of them give what the uncompressed ones give."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from smvae_core.modality import vision_touch_modalities
from smvae_ros.bags.reading import BagError
from smvae_ros.conversions.bindings import COMPRESSED, IMAGE
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.to_logs import write_logs
from smvae_ros.settings import default_settings

from ..command import smvae
from ..conversions.test_compressed import encoded, headed
from ..robot import STEP_S, FusionProcess, Robot, colours, fusion_starter

TOPICS = {"rgb": "/camera/color/image_raw/compressed", "depth": "/camera/depth/image_raw/compressedDepth"}
FORMATS = {"rgb": "rgb8; png compressed bgr8", "depth": "16UC1; compressedDepth png"}
ELSEWHERE = {"streams": {name: {"topic": topic} for name, topic in TOPICS.items()}}
"""The topics alone, as `--topic` names them."""
_TYPES = get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="module")
def compressed_bag(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording with its images compressed without loss, as image_transport would have."""
    out = tmp_path_factory.mktemp("compressed") / bag.name
    with AnyReader([bag]) as reader, Writer(out, version=9) as writer:
        modalities = {connection.topic: connection.topic.split("/")[1] for connection in reader.connections}
        connections = {
            topic: writer.add_connection(TOPICS[name], COMPRESSED, typestore=_TYPES)
            if topic.endswith("/image")
            else writer.add_connection(
                topic, next(c.msgtype for c in reader.connections if c.topic == topic), typestore=_TYPES
            )
            for topic, name in modalities.items()
        }
        for connection, log_ns, content in reader.messages():
            if connection.msgtype == IMAGE:
                name = modalities[connection.topic]
                image = _TYPES.deserialize_cdr(content, IMAGE)
                message = _TYPES.types[COMPRESSED](image.header, FORMATS[name], np.frombuffer(packed(image), np.uint8))
                content = bytes(_TYPES.serialize_cdr(message, COMPRESSED))
            writer.write(connections[connection.topic], log_ns, content)
    return out


def packed(image: Any) -> bytes:
    if image.encoding == "16UC1":
        return headed(image.data.view("<u2").reshape(image.height, image.width))
    assert image.encoding == "rgb8"
    return encoded(image.data.reshape(image.height, image.width, 3)[..., ::-1])


@pytest.mark.parametrize("named", [{}, {"rgb": COMPRESSED, "depth": COMPRESSED}, {"rgb": IMAGE}], ids=len)
def test_a_compressed_bag_replays_to_the_same_results(
    named: dict[str, str], results: Path, compressed_bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    streams = {name: {"message": message} for name, message in named.items()}
    replay(compressed_bag, tmp_path, ReplayJob(checkpoint, (ELSEWHERE, {"streams": streams}), "cpu"))
    assert pq.read_table(tmp_path / "sets.parquet").equals(pq.read_table(results / "sets.parquet"))
    for name in ("pictures.npz", "predictions.png"):
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes()


def test_predictions_of_a_compressed_bag_are_written_as_images(
    compressed_bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    replay(compressed_bag, tmp_path, ReplayJob(checkpoint, (ELSEWHERE,), "cpu", write_bag=True))
    with AnyReader([tmp_path / "fusion"]) as reader:
        types = {connection.topic: connection.msgtype for connection in reader.connections}
    assert types["/fusion/predicted/rgb"] == types["/fusion/predicted/depth"] == IMAGE


def test_a_compressed_bag_gives_the_same_logs(bag: Path, compressed_bag: Path, tmp_path: Path) -> None:
    modalities = vision_touch_modalities()
    plain = write_logs(bag, modalities, default_settings(modalities), tmp_path / "plain").files
    compressed = write_logs(
        compressed_bag, modalities, default_settings(modalities).changed(ELSEWHERE), tmp_path / "compressed"
    ).files
    assert [file.name for file in compressed] == [file.name for file in plain]
    assert [file.read_bytes() for file in compressed] == [file.read_bytes() for file in plain]


def test_the_command_needs_no_more_than_the_topics(compressed_bag: Path, tmp_path: Path) -> None:
    topics = [word for name, topic in TOPICS.items() for word in ("--topic", f"{name}:={topic}")]
    done = smvae("log", compressed_bag, "--out", tmp_path / "logs", *topics)
    assert done.returncode == 0 and "21 sets" in done.stdout, done.stderr


def test_a_topic_that_has_no_images_is_refused_with_both_types(
    compressed_bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    wrong = ReplayJob(checkpoint, (ELSEWHERE, {"streams": {"rgb": {"topic": "/wrench"}}}), "cpu")
    with pytest.raises(BagError, match=f"topic /wrench: expected {IMAGE} or {COMPRESSED}, found geometry_msgs"):
        replay(compressed_bag, tmp_path / "out", wrong)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Robot, FusionProcess]]]:
    """Starts a node of the test's own."""
    with fusion_starter(tmp_path / "log") as begin:
        yield begin


def test_the_node_fuses_compressed_cameras_and_goes_on_where_one_sends_no_picture(
    start: Callable, checkpoint: Path
) -> None:
    streams = {
        f"streams.{name}.{key}": value
        for name, topic in TOPICS.items()
        for key, value in (("topic", topic), ("message", COMPRESSED))
    }
    robot, process = start(checkpoint=checkpoint, **streams)
    predicted = {name: robot.listen(f"predicted/{name}", Image) for name in TOPICS}
    data = {
        "rgb": cv2.imencode(".jpg", colours())[1].tobytes(),
        "depth": headed(np.full((48, 64), 1000, np.uint16)),
    }
    publishers = {name: robot.node.create_publisher(CompressedImage, topic, 10) for name, topic in TOPICS.items()}

    def send() -> None:
        header = Header(stamp=robot.node.get_clock().now().to_msg(), frame_id="eye")
        for name, publisher in publishers.items():
            publisher.publish(CompressedImage(header=header, format=FORMATS[name], data=data[name]))

    robot.node.create_timer(STEP_S, send)
    assert robot.wait_for_set("rgb", "depth").header.frame_id == "eye"
    robot.wait(lambda: all(predicted.values()), "predictions of the two as Image")
    assert (predicted["rgb"][0].encoding, predicted["depth"][0].encoding) == ("rgb8", "32FC1")
    # Beside the image, not beside its compressed form.
    assert robot.node.count_subscribers("/camera/depth/camera_info") == 1
    data["rgb"] = data["rgb"][:-100]
    robot.wait_for_set("depth")
    robot.wait(lambda: robot.dropped("rgb").get("rejected", 0) > 0, "the count of rejected pictures")
    robot.wait(lambda: "rgb: expected a whole JPEG, found" in process.output(), "a warning")
