"""Messages that can be read but mean nothing are named."""

from array import array

import numpy as np
import pytest
from geometry_msgs.msg import WrenchStamped
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import raw_array, reasons_against, set_arrays
from smvae_ros.conversions.bindings import bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.node.diagnostics import OK, WARN, ModalityReport
from smvae_ros.node.message_sources import MessageSources
from smvae_ros.node.stream_faults import (
    mixed_sources,
    repeated_numbers,
    repeated_pictures,
    repeated_stamps,
    scattered_stamps,
    stretched_windows,
)
from smvae_ros.settings import default_settings
from smvae_ros.synchronizer.sample_set import Sample, SampleSet

from ..conversions.test_arrays import image
from ..synchronizer.bench import CAMERA, FORCE, Bench

RGB, DEPTH, WRENCH, _ = bind(vision_touch_modalities(), {})


@pytest.mark.parametrize("encoding", ["32FC1", "64FC1"])
def test_depth_of_millimetres_in_an_encoding_of_metres_is_refused(encoding: str) -> None:
    kind = np.float32 if encoding == "32FC1" else np.float64
    millimetres = np.full((48, 64), 850, kind)
    millimetres[::2] = np.nan
    with pytest.raises(ConversionError, match="depth: expected depth in metres, .* found a median of 850, as of milli"):
        raw_array(DEPTH, [image(encoding, millimetres)])
    raw_array(DEPTH, [image(encoding, millimetres / 1000)])
    raw_array(DEPTH, [image(encoding, np.zeros((48, 64), kind))])


@pytest.mark.parametrize("unit", [10, 100], ids=["tenths of millimetres, as if of millimetres", "centimetres"])
def test_depth_beyond_the_range_of_the_model_is_told_from_depth_without_readings(unit: int) -> None:
    metres = np.linspace(0.4, 1.8, 48 * 64, dtype=np.float32).reshape(48, 64)
    assert "depth: expected depth of 0 to 2 m, found readings of 1" in reason_against(metres * unit)
    metres[5:] = 30.0
    assert reason_against(metres) == ""
    metres[:] = np.nan
    assert "expected at least 5 % pixels with a reading" in reason_against(metres)


def reason_against(metres: np.ndarray) -> str:
    """Why a set has no depth for this image, "" if it has, as node and replay say."""
    sample_set = SampleSet(0, 0, {"depth": (Sample(0, image("32FC1", metres)),)}, "complete", 0, 0, False)
    _, rejected = set_arrays([DEPTH], sample_set)
    arrays, _ = set_arrays([DEPTH], sample_set, check=False)
    assert rejected == reasons_against([DEPTH], arrays, (), sample_set)
    return rejected.get("depth", "")


def test_a_window_that_spans_far_more_time_than_its_samples_take_is_counted_and_named() -> None:
    for spacing, stretched in ((4, 0), (15, 0), (17, 1)):
        bench = Bench(CAMERA, FORCE)
        for step in range(4):
            bench.add("force", step * spacing)
        bench.add("rgb", 3 * spacing)
        counts = bench.synchronizer.counts["force"]
        assert (counts.sets, counts.stretched) == (1 - stretched, stretched)
        assert set(bench.sets[-1].samples) == ({"rgb"} if stretched else {"rgb", "force"})
        assert bool(stretched_windows(FORCE, counts.stretched, counts.span_ns)) == bool(stretched)
    stream = default_settings(vision_touch_modalities()).streams["force"].stream("force")
    assert "3 windows of 32 samples span 500 ms, expected about 28 ms" in stretched_windows(stream, 3, 500_000_000)


def test_a_window_with_a_hole_is_absent_and_returns_when_the_hole_has_gone() -> None:
    bench = Bench(CAMERA, FORCE)
    # 4 ms apart, but for a hole of 60 ms, which is shorter than the timeout.
    moments = [step * 4 + (60 if step >= 10 else 0) for step in range(20)]
    for now in moments:
        bench.add("force", now)
        bench.add("rgb", now)
    with_force = [one.stamp_ns // 1_000_000 for one in bench.sets if "force" in one.samples]
    whole = [now for place, now in enumerate(moments) if place >= 3 and now - moments[place - 3] == 12]
    assert [stamp - with_force[0] for stamp in with_force] == [now - whole[0] for now in whole]
    counts = bench.synchronizer.counts["force"]
    assert counts.stretched == 3 and counts.received == counts.used + counts.dropped.total() + bench.synchronizer.held(
        "force"
    )


def test_a_window_that_is_always_stretched_does_not_keep_its_stream_alive() -> None:
    bench = Bench(CAMERA, FORCE)
    for step in range(40):
        bench.add("force", step * 20)
        bench.add("rgb", step * 20)
    synchronizer = bench.synchronizer
    assert synchronizer.counts["force"].sets == 0 and synchronizer.counts["force"].stretched > 30
    assert not synchronizer.alive("force", bench.sets[-1].emitted_ns)
    assert synchronizer.counts["force"].dropped["stretched"] > 0


def test_stamps_that_repeat_are_named() -> None:
    assert "stamps repeat: 29 of 30 messages" in repeated_stamps(30, 29)
    assert "stamps repeat: 14 of 30 messages" in repeated_stamps(30, 14), "two under each stamp"
    assert not repeated_stamps(30, 10) and not repeated_stamps(0, 0) and not repeated_stamps(2, 2)


def test_a_camera_that_repeats_one_picture_is_named() -> None:
    stream = SampleReader(RGB.reading(get_typestore(Stores.ROS2_JAZZY)))
    noise = np.random.default_rng(0)
    message = Image(height=20, width=20, step=60, encoding="rgb8")
    message.data = array("B", noise.integers(0, 256, 1200, np.uint8).tobytes())
    for second in range(200):
        message.header.stamp.sec = second
        stream.read(serialize_message(message))
    assert (stream.repeated, stream.repeated_in_a_row) == (199, 199)
    assert "the same picture 200 times in a row" in repeated_pictures(30, 30, 199)
    message.data[1000] ^= 1
    stream.read(serialize_message(message))
    assert (stream.repeated, stream.repeated_in_a_row) == (199, 0) and not repeated_pictures(30, 3, 0)


def test_a_driver_that_sends_each_picture_twice_is_told_from_a_camera_that_hangs() -> None:
    words = repeated_pictures(30, 15, 1)
    assert words.startswith("15 of 30 pictures are the same as the one before, but new ones come")
    assert not repeated_pictures(30, 30, 45), "it may hang, or nothing moves: too early to tell"


def test_a_camera_that_begins_to_hang_or_goes_on_is_not_told_to_send_too_often() -> None:
    assert not repeated_pictures(30, 28, 28), "all repeated ones are the last"
    assert repeated_pictures(30, 28, 4)


@pytest.mark.parametrize("buffers", [2, 4])
def test_a_driver_that_hangs_and_sends_its_buffers_in_turn_is_named(buffers: int) -> None:
    stream = SampleReader(RGB.reading(get_typestore(Stores.ROS2_JAZZY)))
    noise = np.random.default_rng(0)
    pictures = [Image(height=20, width=20, step=60, encoding="rgb8") for _ in range(buffers)]
    for picture in pictures:
        picture.data = array("B", noise.integers(0, 256, 1200, np.uint8).tobytes())
    for number in range(200):
        stream.read(serialize_message(pictures[number % buffers]))
    assert stream.repeated_in_a_row == 200 - buffers
    words = repeated_pictures(30, 30, stream.repeated_in_a_row, stream.different)
    assert f"the same {buffers} pictures in turn, 200 times in a row" in words


def test_a_force_sensor_whose_numbers_stand_still_is_named() -> None:
    stream = SampleReader(WRENCH.reading(get_typestore(Stores.ROS2_JAZZY)))
    message = WrenchStamped()
    for second in range(3):
        message.wrench.force.z = 1.0 - 0.25 * (second == 0)
        message.header.stamp.sec = second
        stream.read(serialize_message(message))
    assert (stream.repeated, stream.repeated_in_a_row) == (1, 1)
    assert "the same numbers 5001 times in a row" in repeated_numbers(1000, 5000)
    assert not repeated_numbers(1000, 4000) and not repeated_numbers(0, 9000)


def test_stamps_scattered_to_both_sides_are_named() -> None:
    assert "15 of 30 messages are dropped, whose stamps are up to 2.0 s ahead" in scattered_stamps(
        30, 14, 15, (-2.0, 2.0), 0.05
    )
    assert "15 of 30 messages come after their sets" in scattered_stamps(30, 15, 14, (-2.0, 2.0), 0.05)
    assert not scattered_stamps(30, 30, 0, (1.0, 2.0), 0.05), "of another clock"
    assert not scattered_stamps(30, 3, 2, (-2.0, 2.0), 0.05)


def serialised(frame: str, width: int = 20) -> bytes:
    """An Image of a frame and a size."""
    message = Image(height=2, width=width, step=3 * width, encoding="rgb8", data=bytes(6 * width))
    message.header.frame_id = frame
    return serialize_message(message)


@pytest.mark.parametrize(
    ("messages", "changes", "frames", "sizes"),
    [
        ([(n, serialised("cam")) for n in range(6)], 0, 1, 1),
        ([(n, serialised("cam")) for n in (5, 6, 7, 1, 2, 3)], 1, 1, 1),
        ([(n, serialised("cam")) for n in (500, 1, 501, 2, 502, 3)], 3, 1, 1),
        ([(n, serialised("cam")) for n in (1, 1, 2, 2, 3, 3)], 3, 1, 1),
        ([(n, serialised("left" if n % 2 else "right")) for n in range(6)], 5, 2, 1),
        ([(n, serialised("cam", 20 + n % 2)) for n in range(6)], 5, 1, 2),
        ([(None, serialised("", 20)) for _ in range(6)], 0, 0, 1),
    ],
    ids=["one", "restarted", "two publishers", "two of one age", "two frames", "two sizes", "without numbers"],
)
def test_sources_that_are_mixed_on_one_topic_are_counted(
    messages: list[tuple[int | None, bytes]], changes: int, frames: int, sizes: int
) -> None:
    sources = MessageSources(has_header=True, one_size=True)
    for number, message in messages:
        sources.see(number, message)
    assert (sources.changes, len(sources.frames), len(sources.sizes)) == (changes, frames, sizes)
    words = mixed_sources(6, changes, ["/left", "/right"], sources)
    assert words.startswith(f"messages of several sources are mixed, {changes} of 6") == (changes > 1)
    if changes > 1:
        assert "publishers /left, /right" in words
        assert ("frames right and left" in words) == (frames > 1)


def test_a_wrench_of_two_frames_and_bytes_that_are_no_message_are_no_trouble() -> None:
    sources = MessageSources(has_header=True, one_size=False)
    for frame in ("wrist", "base", "wrist"):
        message = WrenchStamped()
        message.header.frame_id = frame
        sources.see(None, serialize_message(message))
    assert (sources.changes, sources.frames, sources.sizes) == (2, ("wrist", "base"), ())
    for broken in (b"", b"\0\1\0\0", bytes(20), b"\xff" * 40):
        sources.see(1, broken)


def test_a_modality_in_no_set_is_not_well() -> None:
    report = ModalityReport("rgb", "/rgb/image", alive=True, rate=30.0, received=30, share=0.5)
    assert report.verdict()[0] == OK
    level, words = ModalityReport("rgb", "/rgb/image", alive=True, rate=30.0, received=30, share=0.0).verdict()
    assert (level, words) == (WARN, "30.0 Hz, but in no set of the last second")
    level, words = ModalityReport("rgb", "/rgb/image", alive=False, rate=30.0, received=30).verdict()
    assert level == WARN and "in no set" in words, "messages arrive, so it is not silent"
