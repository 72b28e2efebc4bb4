"""Messages to arrays and back: every encoding and layout, and a ConversionError for every broken message."""

import sys
from array import array
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions import images
from smvae_ros.conversions.arrays import (
    fill_image,
    fill_twist,
    fill_wrench,
    raw_array,
    set_arrays,
    stamp_ns,
)
from smvae_ros.conversions.bindings import Binding, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.images import MOST_PIXELS
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet

BINDINGS = {binding.modality.name: binding for binding in bind(vision_touch_modalities(), {})}
RGB, DEPTH, FORCE, ACTION = BINDINGS.values()
COLOURS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def image(encoding: str, pixels: np.ndarray, padding: int = 0, bigendian: bool = False) -> SimpleNamespace:
    """An Image of pixels (H, W, ...), each row followed by `padding` bytes."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = stored.reshape(len(stored), -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(bigendian),
        step=data.shape[1],
        data=array("B", data.tobytes()),
    )


def wrench(*values: Any) -> SimpleNamespace:
    force, torque = SimpleNamespace(**dict(zip("xyz", values))), SimpleNamespace(**dict(zip("xyz", values[3:])))
    return SimpleNamespace(wrench=SimpleNamespace(force=force, torque=torque))


def twist(*values: Any) -> SimpleNamespace:
    linear, angular = SimpleNamespace(**dict(zip("xyz", values))), SimpleNamespace(x=0.0, y=0.0, z=values[3])
    return SimpleNamespace(twist=SimpleNamespace(linear=linear, angular=angular))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
@given(pixels=COLOURS, padding=st.integers(0, 5))
def test_colour_images_become_rgb(encoding: str, pixels: np.ndarray, padding: int) -> None:
    stored = pixels[..., ::-1] if encoding.startswith("bgr") else pixels
    if encoding.endswith("a8"):
        stored = np.concatenate([stored, np.full_like(stored[..., :1], 7)], axis=-1)
    assert np.array_equal(raw_array(RGB, [image(encoding, stored, padding)]), pixels)


@given(pixels=COLOURS, padding=st.integers(0, 5))
def test_grey_images_become_rgb(pixels: np.ndarray, padding: int) -> None:
    grey = pixels[..., 0]
    assert np.array_equal(raw_array(RGB, [image("mono8", grey, padding)]), np.stack([grey] * 3, axis=-1))


@given(
    # Up to 20 m: a median far beyond the range is taken for millimetres and refused.
    pixels=hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 20, width=32)),
    padding=st.integers(0, 5),
    bigendian=st.booleans(),
)
def test_float_depth_is_metres_in_either_byte_order(pixels: np.ndarray, padding: int, bigendian: bool) -> None:
    metres = raw_array(DEPTH, [image("32FC1", pixels, padding, bigendian)])
    assert metres.dtype == np.float32 and metres.dtype.isnative
    np.testing.assert_array_equal(metres, pixels)


@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    padding=st.integers(0, 5),
    bigendian=st.booleans(),
)
def test_integer_depth_is_millimetres_in_either_byte_order(pixels: np.ndarray, padding: int, bigendian: bool) -> None:
    metres = raw_array(DEPTH, [image("16UC1", pixels, padding, bigendian)])
    assert metres.dtype == np.float32
    np.testing.assert_allclose(metres, pixels / 1000.0, rtol=1e-6)


def test_depth_without_a_reading_is_zero_in_the_model() -> None:
    message = image("32FC1", np.full((64, 64), np.nan, np.float32))
    assert not DEPTH.modality.to_model(raw_array(DEPTH, [message])).any()


@given(COLOURS)
def test_colour_goes_into_a_message_and_out_again(pixels: np.ndarray) -> None:
    message = SimpleNamespace()
    fill_image(message, pixels)
    assert isinstance(message.data, array) and message.data.typecode == "B"
    assert np.array_equal(raw_array(RGB, [message]), pixels)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 4, width=32)))
def test_depth_goes_into_a_message_and_out_again(metres: np.ndarray) -> None:
    message = SimpleNamespace()
    fill_image(message, metres)
    assert np.array_equal(raw_array(DEPTH, [message]), metres)


@given(hnp.arrays(np.float32, (3, 6), elements=st.floats(-100, 100, width=32)))
def test_wrenches_become_rows_and_rows_wrenches(rows: np.ndarray) -> None:
    messages = [wrench(*[0.0] * 6) for _ in rows]
    for message, row in zip(messages, rows):
        fill_wrench(message, row)
    assert np.array_equal(raw_array(FORCE, messages), rows)


@given(hnp.arrays(np.float32, 4, elements=st.floats(-1, 1, width=32)))
def test_a_twist_is_linear_x_y_z_and_angular_z(row: np.ndarray) -> None:
    message = twist(0.0, 0.0, 0.0, 0.0)
    fill_twist(message, row)
    assert np.array_equal(raw_array(ACTION, [message]), row)
    assert (message.twist.angular.x, message.twist.angular.y) == (0.0, 0.0)


def test_the_header_has_the_stamp() -> None:
    stamp = SimpleNamespace(sec=12, nanosec=34)
    assert stamp_ns(SimpleNamespace(header=SimpleNamespace(stamp=stamp))) == 12_000_000_034
    assert stamp_ns(SimpleNamespace()) == 0
    with pytest.raises(ConversionError, match="expected a message with a header"):
        stamp_ns(SimpleNamespace(header=None))


GOOD = image("rgb8", np.zeros((4, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 0}, f"rgb: expected an image of 1 to {MOST_PIXELS} pixels, found 5 × 0"),
        ({"width": -5}, f"rgb: expected an image of 1 to {MOST_PIXELS} pixels, found -5 × 4"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, f"rgb: expected an image of 1 to {MOST_PIXELS} pixels"),
        ({"step": 14}, "rgb: expected a step of at least 15 for 5 pixels of rgb8, found 14"),
        ({"step": 2**32 - 1}, f"rgb: expected {4 * (2**32 - 1)} bytes for 4 rows of {2**32 - 1}, found 60"),
        ({"data": array("B", bytes(59))}, "rgb: expected 60 bytes for 4 rows of 15, found 59"),
        ({"data": array("B")}, "rgb: expected 60 bytes for 4 rows of 15, found 0"),
        ({"data": None}, "rgb: expected a whole Image, found one with"),
        ({"height": 4.5}, "rgb: expected a whole Image, found one with"),
    ],
)
def test_a_broken_image_is_refused_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConversionError) as refused:
        raw_array(RGB, [SimpleNamespace(**{**vars(GOOD), **change})])
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_forces_and_commands_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ConversionError, match="force: expected finite numbers, found (nan|inf)"):
        raw_array(FORCE, [wrench(0, 0, 0, 0, 0, 0), wrench(0, 0, bad, 0, 0, 0)])
    with pytest.raises(ConversionError, match="action: expected finite numbers, found (nan|inf)"):
        raw_array(ACTION, [twist(0, bad, 0, 0)])


def test_a_message_of_another_type_is_refused() -> None:
    for binding, expected in ((RGB, "Image"), (DEPTH, "Image"), (FORCE, "WrenchStamped"), (ACTION, "TwistStamped")):
        with pytest.raises(ConversionError, match=f"{binding.modality.name}: expected a whole {expected}"):
            raw_array(binding, [SimpleNamespace(data="hello")])


@pytest.fixture
def cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType | None], None]]:
    """Installs a module as cv_bridge, None for no such package."""

    def install(module: ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
        images._bridge.cache_clear()

    yield install
    images._bridge.cache_clear()


def test_another_encoding_without_cv_bridge_is_refused_and_names_it(cv_bridge: Callable[..., None]) -> None:
    cv_bridge(None)
    with pytest.raises(ConversionError, match="rgb8, .*, found 'yuv411', which needs cv_bridge"):
        raw_array(RGB, [SimpleNamespace(**{**vars(GOOD), "encoding": "yuv411"})])


def test_another_encoding_goes_through_cv_bridge_where_it_is_installed(cv_bridge: Callable[..., None]) -> None:
    class CvBridge:
        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> np.ndarray:
            if message.encoding == "nonsense":
                raise RuntimeError("unrecognised encoding")
            return np.full((message.height, message.width, 3), len(desired_encoding), np.uint8)

    bridge = ModuleType("cv_bridge")
    bridge.CvBridge = CvBridge  # type: ignore[attr-defined]
    cv_bridge(bridge)
    yuv = SimpleNamespace(**{**vars(GOOD), "encoding": "yuv411"})
    assert np.array_equal(raw_array(RGB, [yuv]), np.full((4, 5, 3), len("rgb8"), np.uint8))
    with pytest.raises(ConversionError, match="which cv_bridge cannot convert .unrecognised encoding"):
        raw_array(RGB, [SimpleNamespace(**{**vars(GOOD), "encoding": "nonsense"})])


def test_a_broken_cv_bridge_is_tried_once(cv_bridge: Callable[..., None]) -> None:
    tried = []

    class CvBridge:
        def __init__(self) -> None:
            tried.append(self)
            raise AttributeError("_ARRAY_API not found")

    bridge = ModuleType("cv_bridge")
    bridge.CvBridge = CvBridge  # type: ignore[attr-defined]
    cv_bridge(bridge)
    for _ in range(3):
        with pytest.raises(ConversionError, match="which needs cv_bridge, and that is not installed or does not load"):
            raw_array(RGB, [SimpleNamespace(**{**vars(GOOD), "encoding": "yuv411"})])
    assert len(tried) == 1


def test_a_set_leaves_out_messages_that_cannot_be_converted_and_says_why() -> None:
    messages = {
        "rgb": [image("rgb8", np.tile(np.arange(128, dtype=np.uint8)[:, None], (128, 1, 3)))],
        "depth": [image("32FC1", np.ones((3, 3), np.float32))],
        "force": [wrench(*[float("nan")] * 6)],
    }
    messages["depth"][0].step = 1
    samples = {name: tuple(Sample(0, message) for message in some) for name, some in messages.items()}
    arrays, rejected = set_arrays(BINDINGS.values(), SampleSet(0, 0, samples, "complete", 0, 0))
    assert {name: (x.shape, x.dtype) for name, x in arrays.items()} == {"rgb": ((3, 64, 64), np.float32)}
    assert set(rejected) == {"depth", "force"}
    assert "step of at least 12" in rejected["depth"] and "found nan" in rejected["force"]


NUMBERS = st.one_of(st.integers(-(2**40), 2**70), st.integers(0, 8), st.floats(), st.none(), st.text(max_size=3))
ENCODINGS = st.one_of(
    st.sampled_from(["rgb8", "bgra8", "mono8", "32FC1", "16UC1"]), st.text(max_size=6), st.none(), st.just([])
)
DATA = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda data: array("B", data)),
    st.none(),
    st.lists(NUMBERS, max_size=3),
)


@settings(max_examples=500)
@given(
    binding=st.sampled_from([RGB, DEPTH]),
    fields=st.fixed_dictionaries({"height": NUMBERS, "width": NUMBERS, "step": NUMBERS}),
    encoding=ENCODINGS,
    bigendian=NUMBERS,
    data=DATA,
    missing=st.sets(st.sampled_from(["height", "width", "step", "encoding", "is_bigendian", "data"]), max_size=1),
)
def test_no_image_raises_anything_but_a_conversion_error(
    binding: Binding, fields: dict[str, Any], encoding: Any, bigendian: Any, data: Any, missing: set[str]
) -> None:
    content = {**fields, "encoding": encoding, "is_bigendian": bigendian, "data": data}
    message = SimpleNamespace(**{key: value for key, value in content.items() if key not in missing})
    try:
        raw = raw_array(binding, [message])
    except ConversionError:
        return
    assert binding.modality.to_model(raw).shape == binding.modality.shape


@given(st.lists(st.lists(NUMBERS, max_size=7), min_size=1, max_size=3))
def test_no_wrench_or_twist_raises_anything_but_a_conversion_error(rows: list[list[Any]]) -> None:
    for binding, messages in (
        (FORCE, [wrench(*row) for row in rows]),
        (ACTION, [twist(*(row + [0] * 4)) for row in rows]),
    ):
        try:
            raw = raw_array(binding, messages)
        except ConversionError:
            continue
        assert np.isfinite(raw).all()
