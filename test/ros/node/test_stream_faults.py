"""Messages that can be read but mean nothing are named."""

from array import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.node.diagnostics import OK, WARN, ModalityReport
from smvae_ros.node.stream_faults import repeated_picture, repeated_stamps, stretched_windows
from smvae_ros.settings import default_settings

from ..conversions.test_arrays import image
from ..synchronizer.bench import CAMERA, FORCE, Bench

RGB, DEPTH, *_ = bind(vision_touch_modalities(), {})


@pytest.mark.parametrize("encoding", ["32FC1", "64FC1"])
def test_depth_of_millimetres_in_an_encoding_of_metres_is_refused(encoding: str) -> None:
    kind = np.float32 if encoding == "32FC1" else np.float64
    millimetres = np.full((48, 64), 850, kind)
    millimetres[::2] = np.nan
    with pytest.raises(ConversionError, match="depth: expected depth in metres, .* found a median of 850, as of milli"):
        raw_array(DEPTH, [image(encoding, millimetres)])
    raw_array(DEPTH, [image(encoding, millimetres / 1000)])
    raw_array(DEPTH, [image(encoding, np.zeros((48, 64), kind))])


def test_a_window_that_spans_far_more_time_than_its_samples_take_is_counted_and_named() -> None:
    for spacing, stretched in ((4, 0), (15, 0), (17, 1)):
        bench = Bench(CAMERA, FORCE)
        for step in range(4):
            bench.add("force", step * spacing)
        bench.add("rgb", 3 * spacing)
        counts = bench.synchronizer.counts["force"]
        assert (counts.sets, counts.stretched) == (1, stretched)
        assert bool(stretched_windows(FORCE, counts.stretched, counts.span_ns)) == bool(stretched)
    stream = default_settings(vision_touch_modalities()).streams["force"].stream("force")
    assert "windows of 32 samples span 500 ms, expected about 28 ms" in stretched_windows(stream, 3, 500_000_000)


def test_stamps_that_repeat_are_named() -> None:
    assert "stamps repeat: 29 of 30 messages" in repeated_stamps(30, 29)
    assert not repeated_stamps(30, 10) and not repeated_stamps(0, 0) and not repeated_stamps(2, 2)


def test_a_camera_that_repeats_one_picture_is_named() -> None:
    stream = SampleReader(RGB.reading(get_typestore(Stores.ROS2_JAZZY)))
    noise = np.random.default_rng(0)
    message = Image(height=20, width=20, step=60, encoding="rgb8")
    message.data = array("B", noise.integers(0, 256, 1200, np.uint8).tobytes())
    for second in range(200):
        message.header.stamp.sec = second
        stream.read(serialize_message(message))
    assert stream.repeated == 199 and "the same picture 200 times in a row" in repeated_picture(stream.repeated)
    message.data[1000] ^= 1
    stream.read(serialize_message(message))
    assert stream.repeated == 0 and not repeated_picture(0)


def test_a_modality_in_no_set_is_not_well() -> None:
    report = ModalityReport("rgb", "/rgb/image", alive=True, rate=30.0, received=30, share=0.5)
    assert report.verdict()[0] == OK
    level, words = ModalityReport("rgb", "/rgb/image", alive=True, rate=30.0, received=30, share=0.0).verdict()
    assert (level, words) == (WARN, "30.0 Hz, but in no set of the last second")
    level, words = ModalityReport("rgb", "/rgb/image", alive=False, rate=30.0, received=30).verdict()
    assert level == WARN and "in no set" in words, "messages arrive, so it is not silent"
