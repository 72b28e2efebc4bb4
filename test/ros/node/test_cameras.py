"""CameraInfo: where it is looked for, what is published beside predictions, and what its absence costs."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, RegionOfInterest
from std_msgs.msg import Header

from smvae_ros.conversions.bindings import COMPRESSED, IMAGE
from smvae_ros.node.cameras import calibration_fault, camera_info_topic, cropped, resized, shape_fault

from ..robot import ALL, FRAMES, FusionProcess, Robot, own_domain, stamp_ns

K = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
P = [50.0, 0.0, 31.5, -5.0, 0.0, 50.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize(
    ("image", "message", "expected"),
    [
        ("depth/image", IMAGE, "depth/camera_info"),
        ("/cam/depth/image_raw", IMAGE, "/cam/depth/camera_info"),
        ("/cam/image_raw/compressed", COMPRESSED, "/cam/camera_info"),
        ("/cam/image_raw/compressedDepth", COMPRESSED, "/cam/camera_info"),
        ("/cam/packed", COMPRESSED, "/cam/camera_info"),
        ("image", IMAGE, "camera_info"),
    ],
)
def test_camera_info_lies_beside_the_raw_image(image: str, message: str, expected: str) -> None:
    assert camera_info_topic(image, message) == expected


@given(st.integers(1, 400), st.integers(1, 400), st.floats(1.0, 500.0), st.floats(0.0, 300.0))
def test_a_point_falls_on_the_same_part_of_the_image_after_resizing(
    width: int, height: int, focal: float, centre: float
) -> None:
    k = [focal, 0.5, centre, 0.0, 2 * focal, centre / 2, 0.0, 0.0, 1.0]
    p = [focal, 0.5, centre, -7.0, 0.0, 2 * focal, centre / 2, 3.0, 0.0, 0.0, 1.0, 0.0]
    camera = CameraInfo(width=64, height=48, k=k, p=p, d=[0.1, 0.2])
    small = resized(camera, Header(), width, height)
    point = np.array([0.3, -0.2, 1.7])
    pairs = [
        (camera.k.reshape(3, 3) @ point, small.k.reshape(3, 3) @ point),
        (camera.p.reshape(3, 4) @ [*point, 1.0], small.p.reshape(3, 4) @ [*point, 1.0]),
    ]
    for (u, v, w), (x, y, z) in pairs:
        assert (x / z + 0.5) / width == pytest.approx((u / w + 0.5) / 64, abs=1e-9)
        assert (y / z + 0.5) / height == pytest.approx((v / w + 0.5) / 48, abs=1e-9)
    assert list(small.d) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": K, "p": P, "d": [0.0] * 5, "distortion_model": "plumb_bob"}, ""),
        ({"k": [0.0] * 9}, ""),
        ({"k": K, "d": [], "distortion_model": "plumb_bob"}, ""),
        ({"k": K, "d": [0.1] * 3, "distortion_model": "their own"}, ""),
        ({"k": K, "width": 0}, "a width and a height, found 0 × 48"),
        ({"k": [np.nan, *K[1:]]}, "finite numbers, found others in k"),
        ({"k": K, "p": [np.inf, *P[1:]]}, "finite numbers, found others in p"),
        ({"k": K, "d": [np.nan] * 5}, "finite numbers, found others in d"),
        ({"k": K, "d": [0.1] * 3, "distortion_model": "plumb_bob"}, "expected 4 or 5 numbers in a CameraInfo's d"),
        ({"k": K, "d": [0.1] * 7, "distortion_model": "rational_polynomial"}, "8 or 12 or 14 numbers"),
    ],
)
def test_a_calibration_that_means_nothing_is_not_passed_on(fields: dict[str, Any], words: str) -> None:
    fault = calibration_fault(CameraInfo(**{"width": 64, "height": 48, **fields}))
    assert words in fault and bool(words) == bool(fault)


pixels = st.integers(1, 400)


@given(st.tuples(pixels, pixels), st.tuples(st.integers(0, 300), st.integers(0, 300)), st.integers(1, 4))
def test_a_ray_meets_the_same_place_of_the_region_that_the_pictures_show(
    size: tuple[int, int], offset: tuple[int, int], binning: int
) -> None:
    roi = RegionOfInterest(x_offset=offset[0], y_offset=offset[1], width=size[0] * binning, height=size[1] * binning)
    whole = CameraInfo(width=2000, height=2000, k=K, p=P, roi=roi, binning_x=binning, binning_y=binning)
    small = resized(cropped(whole), Header(), *size)
    assert calibration_fault(small) == "" == shape_fault(cropped(whole), *size)
    for x, y in ((0.3, -0.2), (0.0, 0.0)):
        full = np.array([K[0] * x + K[2], K[4] * y + K[5]])
        # As drivers cut out the region and bin it: pixel centres stand at whole numbers.
        expected = (full + 0.5 - offset) / binning - 0.5
        found = [small.k[0] * x + small.k[2], small.k[4] * y + small.k[5]]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        np.testing.assert_allclose([small.p[2] - small.k[2], small.p[6] - small.k[5]], 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("calibrated", "binning", "found", "fits"),
    [
        ((640, 480), (0, 0), (640, 480), True),
        ((1280, 960), (0, 0), (640, 480), True),
        ((1280, 960), (2, 2), (640, 480), True),
        ((1283, 961), (2, 2), (641, 480), True),
        ((1280, 960), (2, 1), (640, 960), True),
        ((640, 360), (0, 0), (640, 480), False),
        ((640, 480), (0, 0), (480, 640), False),
        ((1280, 960), (2, 1), (640, 480), False),
        ((2**32 - 1, 1), (0, 0), (8, 8), False),
    ],
)
def test_a_calibration_of_pictures_of_another_shape_is_another_cameras(
    calibrated: tuple[int, int], binning: tuple[int, int], found: tuple[int, int], fits: bool
) -> None:
    camera = CameraInfo(width=calibrated[0], height=calibrated[1], binning_x=binning[0], binning_y=binning[1])
    assert (shape_fault(camera, *found) == "") is fits


def test_a_region_of_interest_beyond_the_sensor_is_named() -> None:
    camera = CameraInfo(width=64, height=48, k=K, roi=RegionOfInterest(x_offset=60, width=10, height=48))
    assert "within 64 × 48 pixels, found 10 × 48 at 60, 0" in calibration_fault(cropped(camera))


# sensor_msgs_py is only where a ROS 2 is installed.
POINT_CLOUD2 = """
from array import array
from sensor_msgs.msg import PointCloud2
def create_cloud_xyz32(header, points):
    data = array("B", points.tobytes())
    return PointCloud2(header=header, height=1, width=len(points), point_step=12, row_step=len(data), data=data)
"""


@pytest.fixture(scope="module")
def remapped(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """A node whose depth image is remapped, and a robot that sends it there without any CameraInfo."""
    folder = tmp_path_factory.mktemp("fusion")
    log = folder / "log"
    with own_domain() as domain, pytest.MonkeyPatch.context() as patch:
        if find_spec("sensor_msgs_py") is None:
            (folder / "sensor_msgs_py").mkdir()
            (folder / "sensor_msgs_py" / "point_cloud2.py").write_text(POINT_CLOUD2)
            patch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
        process = FusionProcess(log, {"checkpoint": checkpoint}, ["depth/image:=/cam/depth/image_raw"])
        robot = Robot(domain)
        robot.rename("depth/image", "/cam/depth/image_raw")
        robot.camera_info = None
        robot.sending = set(ALL)
        yield robot, process
        robot.close()
        process.kill()


@pytest.fixture
def robot(remapped: tuple[Robot, FusionProcess]) -> Robot:
    """The robot of the shared node, heard."""
    robot, _ = remapped
    robot.wait_for_set(*ALL)
    return robot


@pytest.fixture
def calibrate(robot: Robot) -> Iterator[Callable[[CameraInfo], None]]:
    """Publish a calibration as drivers do that latch it; at the end the publisher goes, and its calibration with it."""
    publishers: list[Any] = []

    def publish(camera: CameraInfo) -> None:
        if not publishers:
            publishers.append(robot.node.create_publisher(CameraInfo, "/cam/depth/camera_info", LATCHED))
        publishers[0].publish(camera)

    yield publish
    for publisher in publishers:
        robot.node.destroy_publisher(publisher)


def wait_for_diagnostics(robot: Robot, level: bytes, words: str) -> None:
    """Wait until diagnostics of the node have a level and these words."""

    def said() -> bool:
        status = robot.diagnostics.get("fusion: fusion")
        return status is not None and status.level == level and words in status.message

    robot.wait(said, f"diagnostics with '{words}'")


def test_points_without_camera_info_are_named_and_a_latched_one_beside_the_remapped_image_mends_it(
    robot: Robot, remapped: tuple[Robot, FusionProcess], calibrate: Callable[[CameraInfo], None]
) -> None:
    clouds = robot.listen("predicted/points", PointCloud2)
    line = "/fusion/predicted/points is not published: no CameraInfo came on /cam/depth/camera_info"
    robot.wait(lambda: line in remapped[1].output(), "a warning")
    wait_for_diagnostics(robot, DiagnosticStatus.WARN, line)
    assert clouds == []
    infos, depth = robot.listen("predicted/depth/camera_info", CameraInfo), robot.listen("predicted/depth", Image)
    calibrate(CameraInfo(header=Header(frame_id=FRAMES["depth"]), width=64, height=48, k=K, p=P))
    robot.wait(lambda: clouds and infos and len(depth) > 3, "points, camera info and depth")
    assert clouds[-1].header.frame_id == FRAMES["depth"]
    info = infos[0]
    assert (info.width, info.height, info.header.frame_id) == (64, 64, FRAMES["depth"])
    assert stamp_ns(info) in robot.sent_ns
    assert info.k[0] == pytest.approx(50.0) and info.k[4] == pytest.approx(50.0 * 64 / 48)


def test_a_camera_info_that_is_no_use_costs_the_points_alone(
    robot: Robot, remapped: tuple[Robot, FusionProcess], calibrate: Callable[[CameraInfo], None]
) -> None:
    clouds: list[Any] = robot.listen("predicted/points", PointCloud2)
    actions = robot.listen("predicted/action", TwistStamped)
    calibrate(CameraInfo(width=64, height=48, k=[0.0] * 9))
    line = "/fusion/predicted/points is not published: expected a CameraInfo with width, height and finite"
    robot.wait(lambda: line in remapped[1].output(), "a warning")
    actions.clear()
    clouds.clear()
    robot.wait_for_new_latents(10)
    robot.wait(lambda: len(actions) >= 5, "predicted actions")
    assert clouds == []
    count = remapped[1].output().count(line)
    robot.wait_for_new_latents(20)
    assert remapped[1].output().count(line) <= count + 1, "growing intervals"
    values = {pair.key: pair.value for pair in robot.diagnostics["fusion: fusion"].values}
    assert int(values["not published: /fusion/predicted/points"]) > 5
    calibrate(CameraInfo(width=64, height=48, k=K, p=P))
    robot.wait(lambda: clouds, "points again")


def test_a_calibration_of_other_pictures_costs_points_and_camera_info_and_both_topics_are_named(
    robot: Robot, remapped: tuple[Robot, FusionProcess], calibrate: Callable[[CameraInfo], None]
) -> None:
    clouds, infos = (
        robot.listen("predicted/points", PointCloud2),
        robot.listen("predicted/depth/camera_info", CameraInfo),
    )
    calibrate(CameraInfo(width=64, height=36, k=K, p=P))
    words = "is not published: expected a CameraInfo of pictures shaped as 64 × 48, found one of 64 × 36"
    topics = ("points", "depth/camera_info")
    robot.wait(
        lambda: all(f"/fusion/predicted/{topic} {words}" in remapped[1].output() for topic in topics), "two warnings"
    )
    assert "lacks the region of interest (on /cam/depth/camera_info)" in remapped[1].output()
    robot.wait_for_new_latents(5)
    clouds.clear(), infos.clear()
    robot.wait_for_new_latents(10)
    assert not clouds and not infos
    roi = RegionOfInterest(x_offset=10, y_offset=20, width=64, height=48)
    calibrate(CameraInfo(width=100, height=100, k=K, p=P, roi=roi))
    robot.wait(lambda: clouds and infos, "points of the region")
    assert infos[0].k[2] == pytest.approx(K[2] - 10) and not infos[0].roi.width
    calibrate(CameraInfo(width=64, height=48, k=K, p=P, d=[0.1], distortion_model="odd"))
    odd = "/fusion/predicted/points is not published: expected a CameraInfo with the distortion_model plumb_bob"
    robot.wait(lambda: odd in remapped[1].output(), "a warning of the distortion")
    calibrate(CameraInfo(width=64, height=48, k=K, p=P))
    clouds.clear()
    robot.wait(lambda: clouds, "points again")


def test_a_remapping_of_the_camera_info_itself_wins(checkpoint: Path, tmp_path: Path) -> None:
    remappings = ["depth/image:=/cam/image", "depth/camera_info:=/calibration"]
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", {"checkpoint": checkpoint}, remappings)
        robot = Robot(domain)
        try:
            robot.wait_for_state("active")
            robot.wait(lambda: robot.node.count_subscribers("/calibration"), "the node to subscribe")
            assert robot.node.count_subscribers("/cam/camera_info") == 0
        finally:
            robot.close()
            process.kill()
