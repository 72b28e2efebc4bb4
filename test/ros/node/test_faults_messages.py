"""Messages that are broken, odd or far too large: what is published and counted meanwhile, and that all returns."""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from smvae_ros.msg import Latent

from ..robot import ALL, FusionProcess, Robot, colours, fusion_and_robot, image, stamp_ns

COLOUR = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
METRES = np.linspace(0.2, 1.8, 48 * 64, dtype=np.float32).reshape(48, 64)
# Reliable, so that an image of any size is delivered.
PARAMETERS = {f"qos_overrides./{name}/image.subscription.reliability": "reliable" for name in ("rgb", "depth")}


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """One node for all, and a robot."""
    log = tmp_path_factory.mktemp("fusion") / "log"
    with fusion_and_robot(log, {"checkpoint": checkpoint, **PARAMETERS}) as both:
        yield both


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Iterator[Robot]:
    """The robot, sending everything; after each test it sends what is right again, and is heard."""
    robot, process = running
    good = robot.rgb, robot.depth, robot.force, robot.action
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    yield robot
    robot.stamping.clear()
    robot.noise = True
    robot.rgb, robot.depth, robot.force, robot.action = good
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    assert process.alive and "Traceback" not in process.output()


def changed(message: Image, **fields: object) -> Image:
    """The message with other fields."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def rejected(robot: Robot) -> dict[str, int]:
    """Return by modality how many messages could not be used, from a new status."""
    robot.new_status()
    return {name: robot.dropped(name).get("rejected", 0) for name in ALL}


def wait_for_rejections(robot: Robot, name: str, before: int) -> None:
    """Wait until more samples of a modality are counted as rejected than before."""
    robot.wait(lambda: robot.dropped(name).get("rejected", 0) > before, f"rejected samples of {name} to be counted")


def wait_for_set_after(robot: Robot, began_ns: int) -> None:
    """Wait for a set of all modalities that is newer than a stamp."""
    robot.wait(lambda: stamp_ns(robot.wait_for_set(*ALL)) > began_ns, "a newer set")


def latent_of(robot: Robot, name: str, message: Image) -> Latent:
    """What the node says of this image alone, sent without noise."""
    robot.noise = False
    robot.sending = {name}
    setattr(robot, name, message)
    began = robot.sent_ns[-1]

    def said() -> Latent | None:
        return next((m for m in robot.latents if stamp_ns(m) > began and list(m.modalities) == [name]), None)

    # A tick takes the image before it, so one more must have been sent.
    robot.wait(lambda: len([sent for sent in robot.sent_ns if sent > began]) > 2, "images to be sent")
    began = robot.sent_ns[-1]
    robot.latents.clear()
    robot.wait(said, f"a latent of {name} alone")
    return said()


BROKEN: dict[str, tuple[Callable[[], Image], Callable[[], Image]]] = {
    "an encoding of something else": (
        lambda: changed(image(COLOUR), encoding="32FC1"),
        lambda: changed(image(METRES), encoding="rgb8"),
    ),
    "no data, or nothing at all": (lambda: changed(image(COLOUR), data=array("B")), Image),
    "data shorter than the rows": (
        lambda: changed(image(COLOUR), data=image(COLOUR).data[:-1]),
        lambda: changed(image(METRES), height=4800),
    ),
    "a step that is too short or beyond all memory": (
        lambda: changed(image(COLOUR), step=191),
        lambda: changed(image(METRES), step=2**32 - 1),
    ),
    "the largest size there is": (
        lambda: changed(image(COLOUR), height=2**32 - 1, width=2**32 - 1),
        lambda: changed(image(METRES), height=2**32 - 1, width=2**32 - 1, step=0),
    ),
}
"""What is wrong, in a colour and in a depth image."""


@pytest.mark.parametrize("images", BROKEN.values(), ids=BROKEN)
def test_broken_images_are_counted_and_their_sets_go_out_without_them(
    robot: Robot, images: tuple[Callable[[], Image], Callable[[], Image]]
) -> None:
    before = rejected(robot)
    robot.rgb, robot.depth = (build() for build in images)
    robot.wait_for_set("force", "action")
    for name in ("rgb", "depth"):
        wait_for_rejections(robot, name, before[name])


def test_the_warning_of_broken_images_names_topic_and_reason_and_floods_no_log(
    running: tuple[Robot, FusionProcess], robot: Robot
) -> None:
    _, process = running
    robot.rgb = changed(image(COLOUR), encoding="yuv_other")
    robot.wait(lambda: "/rgb/image: rgb: expected encoding rgb8" in process.output(), "a warning that names the topic")
    robot.wait(lambda: "found 'yuv_other'" in process.output(), "a warning that names the encoding")
    warned = process.output().count("yuv_other")
    robot.wait_for_new_latents(20)
    assert process.output().count("yuv_other") == warned


def padded(message: Image) -> Image:
    """Each row followed by 13 bytes of nothing."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return changed(
        message,
        step=message.step + 13,
        data=array("B", np.pad(rows, ((0, 0), (0, 13)), constant_values=255).tobytes()),
    )


def bigendian(message: Image) -> Image:
    """The other byte order."""
    return changed(message, is_bigendian=1, data=array("B", np.frombuffer(message.data, ">u4").astype("<u4").tobytes()))


@pytest.mark.parametrize(
    ("name", "plain", "others"),
    [
        ("rgb", image(COLOUR), [padded(image(COLOUR)), changed(image(COLOUR[..., ::-1]), encoding="bgr8")]),
        (
            "depth",
            image(METRES),
            [padded(image(METRES)), bigendian(image(METRES)), padded(bigendian(image(METRES)))],
        ),
    ],
    ids=["rgb", "depth"],
)
def test_padded_rows_and_other_orders_of_bytes_give_the_latent_of_the_plain_image(
    robot: Robot, name: str, plain: Image, others: list[Image]
) -> None:
    before = rejected(robot)
    expected = latent_of(robot, name, plain)
    for other in others:
        np.testing.assert_allclose(latent_of(robot, name, other).mean, expected.mean, atol=1e-6)
    assert rejected(robot) == before


def test_depth_without_readings_gives_finite_latents_as_if_it_said_zero(robot: Robot) -> None:
    before = rejected(robot)
    holes, zeros = METRES.copy(), METRES.copy()
    holes[:20], holes[20:30], holes[30:40], zeros[:40] = np.nan, np.inf, -np.inf, 0.0
    expected = latent_of(robot, "depth", image(zeros))
    np.testing.assert_allclose(latent_of(robot, "depth", image(holes)).mean, expected.mean, atol=1e-6)
    assert rejected(robot) == before


@pytest.mark.parametrize(
    ("name", "blank", "reason"),
    [
        ("depth", image(np.full_like(METRES, np.nan)), "expected at least 5 % pixels with a reading, found 0 %"),
        (
            "rgb",
            image(np.zeros((48, 64, 3), np.uint8)),
            "expected at least 1 % pixels that differ from the mean colour",
        ),
    ],
)
def test_a_blind_camera_counts_as_absent_and_is_named(robot: Robot, name: str, blank: Image, reason: str) -> None:
    # Not the force, whose windows depend on the stamps of the sets.
    others = [other for other in ("rgb", "depth", "action") if other != name]
    robot.sending = set(others)
    robot.noise = False
    expected = robot.wait_for_set(*others)
    robot.sending |= {name}
    robot.wait_for_set(name, *others)
    setattr(robot, name, blank)
    found = robot.wait_for_set(*others)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(found.log_variance, expected.log_variance, atol=1e-6)
    robot.wait(lambda: reason in robot.diagnostics[f"fusion: {name}"].message, reason)


def test_a_resolution_that_changes_midway_changes_nothing_else(robot: Robot) -> None:
    before = rejected(robot)
    for height, width in ((480, 640), (64, 64), (97, 31), (1, 2), (48, 64)):
        robot.rgb = image(colours(height, width))
        robot.depth = image(np.full((height, width), 1.0, np.float32))
        wait_for_set_after(robot, robot.sent_ns[-1])
    assert rejected(robot) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300], ids=str)
def test_numbers_that_are_not_finite_are_counted_and_their_sets_go_out_without_them(robot: Robot, value: float) -> None:
    before = rejected(robot)
    robot.force, robot.action = np.full(6, value), np.full(4, value)
    # The newest wrench of a moment is 0 times the force.
    with np.errstate(invalid="ignore"):
        # That newest wrench is a number, and is used, where the value is finite.
        robot.wait(lambda: robot.latents and "action" not in robot.latents[-1].modalities, "a set without the action")
        if not np.isfinite(value):
            robot.wait_for_set("rgb", "depth")
        for name in ("force", "action"):
            wait_for_rejections(robot, name, before[name])
    assert all(np.isfinite([*latent.mean, *latent.log_variance]).all() for latent in robot.latents)


def test_a_wrench_at_four_kilohertz_is_received_or_counted_as_lost_and_memory_stays_bounded(robot: Robot) -> None:
    robot.sending = set()
    robot.restart()
    robot.sent.clear()
    # 50 wrenches of 50 ms, each four times, a quarter of a millisecond apart.
    robot.stamping["force"] = lambda moment: [moment - back * 250_000 for back in (3, 2, 1, 0)]
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    robot.wait_for_new_latents(30)
    assert set(ALL) in [set(latent.modalities) for latent in robot.latents[-10:]]
    robot.sending = set()

    def seen() -> int:
        return robot.modality("force").received + robot.modality("force").lost

    robot.wait(lambda: seen() == robot.sent["force"], "each wrench to be received or counted as lost")
    force = robot.modality("force")
    assert robot.sent["force"] > 4000 and force.received > robot.sent["force"] // 2
    held = force.received - force.used - sum(robot.dropped("force").values())
    assert 0 <= held <= robot.get("streams.force.depth")


def test_an_image_of_fifty_megapixels_is_fused_like_any_other(robot: Robot) -> None:
    robot.sending = set()
    robot.wait(lambda: robot.status is not None and not any(m.alive for m in robot.status.modalities), "silence")
    before = rejected(robot)
    robot.latents.clear()
    robot.rgb = changed(Image(), height=5_000, width=10_000, step=10_000, encoding="mono8")
    robot.rgb.data = array("B", bytes(5_000 * 5_000) + b"\xff" * (5_000 * 5_000))
    robot.send({"rgb"})
    sent = robot.sent_ns[-1]
    robot.wait(lambda: sent in [stamp_ns(latent) for latent in robot.latents], "its latent")
    assert list(robot.latents[-1].modalities) == ["rgb"]
    assert rejected(robot) == before


def test_a_publisher_with_too_little_quality_of_service_is_named_and_the_others_are_heard(
    running: tuple[Robot, FusionProcess], robot: Robot
) -> None:
    _, process = running
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = robot.node.create_publisher(Image, "/depth/image", best_effort)
    try:
        robot.wait(
            lambda: "/depth/image: a publisher offers less reliability" in process.output(), "a warning of the topic"
        )
        line = next(line for line in process.output().splitlines() if "offers less" in line)
        assert "/robot (best_effort)" in line and "qos_overrides./depth/image.subscription.reliability" in line
        received = robot.new_status() and robot.modality("depth").received
        publisher.publish(robot.depth)
        robot.wait_for_set(*ALL)
        robot.new_status()
        assert robot.modality("depth").received > received
    finally:
        robot.node.destroy_publisher(publisher)
