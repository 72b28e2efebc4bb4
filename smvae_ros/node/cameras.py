"""Cameras: the calibration (CameraInfo) of each image modality, where a driver publishes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from smvae_ros.conversions.bindings import COMPRESSED, Binding
from smvae_ros.node.subscribing import subscribing

# Encapsulation and stamp, with which every CameraInfo of a camera begins differently.
_STAMP_END = 12
_BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# A driver may publish its calibration once, latched. A subscription that asks for that hears no other publishers, and
# those warn of it, so it is made only where there is a latched publisher.
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# Of pictures against their calibration, as a part of their width.
_MOST_STRETCH = 0.02
# How many numbers a distortion model has.
_DISTORTION = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


class Cameras:
    """Subscriptions to the CameraInfo of each image modality; used on the executor's thread only.

    Attributes:
        known: by modality, the newest calibration that arrived, of the region that the camera's pictures show.
        topics: by image modality, the topic of its CameraInfo, fully resolved.
        rectified: the image modalities whose topic says that its pictures are, as image_rect.
    """

    def __init__(self, node: Node, topics: dict[str, tuple[str, Binding]]) -> None:
        self.known: dict[str, CameraInfo] = {}
        self.topics: dict[str, str] = {}
        self.rectified: set[str] = set()
        self._node = node
        self._subscriptions: list[Subscription] = []
        self._waiting_for_latched: dict[str, Callable[[bytes], None]] = {}
        try:
            for name, (topic, binding) in topics.items():
                if binding.modality.is_image:
                    self.topics[name] = resolved_camera_info_topic(node, topic, binding.type)
                    if "rect" in node.resolve_topic_name(topic):
                        self.rectified.add(name)
                    self._subscribe(name)
        except Exception:
            self.destroy()
            raise

    def look(self) -> None:
        """Subscribe to latched publishers that have come since; call it now and then."""
        for name, see in list(self._waiting_for_latched.items()):
            publishers = self._node.get_publishers_info_by_topic(self.topics[name])
            if any(one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in publishers):
                del self._waiting_for_latched[name]
                # Not to be overridden: both subscriptions would read the same parameters.
                self._create(name, see, _LATCHED, None)

    def destroy(self) -> None:
        """Unsubscribe from everything."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._waiting_for_latched.clear()

    def _subscribe(self, name: str) -> None:
        last = b""

        def see(data: bytes) -> None:
            nonlocal last
            if data[_STAMP_END:] != last:
                self.known[name] = cropped(deserialize_message(data, CameraInfo))
                last = data[_STAMP_END:]

        self._waiting_for_latched[name] = see
        self._create(name, see, _BEST_EFFORT, QoSOverridingOptions.with_default_policies())

    def _create(
        self, name: str, see: Callable[[bytes], None], qos: QoSProfile, overriding: QoSOverridingOptions | None
    ) -> None:
        with subscribing(self._node, self.topics[name], "sensor_msgs/msg/CameraInfo"):
            self._subscriptions.append(
                self._node.create_subscription(
                    CameraInfo,
                    self.topics[name],
                    see,
                    qos,
                    raw=True,
                    qos_overriding_options=overriding,
                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                )
            )


def resolved_camera_info_topic(node: Node, image: str, message: str) -> str:
    """Return the topic of an image's CameraInfo, fully resolved: beside the image as it is remapped.

    A remapping of the CameraInfo itself wins.

    Args:
        image: the image's topic, before remapping.
        message: the ROS type of its messages.
    """
    own = camera_info_topic(image, message)
    remapped = node.resolve_topic_name(own)
    if remapped != node.resolve_topic_name(own, only_expand=True):
        return remapped
    return camera_info_topic(node.resolve_topic_name(image), message)


def camera_info_topic(image: str, message: str) -> str:
    """Return the topic of an image's CameraInfo where image_transport puts it: beside the image, or beside the raw one.

    Args:
        image: the image's topic.
        message: the ROS type of its messages.
    """
    parts = image.split("/")
    if message == COMPRESSED and parts[-1] in ("compressed", "compressedDepth"):
        parts.pop()
    return "/".join([*parts[:-1], "camera_info"])


def calibration_fault(camera: CameraInfo) -> str:
    """Return why a calibration must not be passed on; empty if it may be.

    One that says that the camera is not calibrated, by a K of zeros, may be.
    """
    if not (camera.width and camera.height):
        return f"expected a CameraInfo with a width and a height, found {camera.width} × {camera.height}"
    for key in ("k", "p", "r", "d"):
        if not np.isfinite(np.asarray(getattr(camera, key), float)).all():
            return f"expected a CameraInfo with finite numbers, found others in {key}; calibrate the camera again"
    expected = _DISTORTION.get(camera.distortion_model, ())
    if expected and len(camera.d) not in (0, *expected):
        numbers = " or ".join(map(str, expected))
        return f"expected {numbers} numbers in a CameraInfo's d for {camera.distortion_model}, found {len(camera.d)}"
    roi = camera.roi
    if not _lies_within(camera):
        return (
            f"expected a CameraInfo whose region of interest lies within {camera.width} × {camera.height} pixels, "
            f"found {roi.width} × {roi.height} at {roi.x_offset}, {roi.y_offset}"
        )
    return ""


def shape_fault(camera: CameraInfo, width: int, height: int) -> str:
    """Return why a calibration cannot be that of a camera's pictures; empty if it may be.

    Pictures of another size and the same shape are scaled ones.

    Args:
        camera: with a width and a height above 0, cropped.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
    """
    wide, high = camera.width / max(1, camera.binning_x), camera.height / max(1, camera.binning_y)
    # Binning and scaling cut off parts of pixels.
    if abs(width * high / (height * wide) - 1.0) <= _MOST_STRETCH + 1.0 / min(width, height):
        return ""
    return (
        f"expected a CameraInfo of pictures shaped as {width} × {height}, found one of {wide:.0f} × {high:.0f}; it "
        "belongs to another camera or mode, or lacks the region of interest"
    )


def cropped(camera: CameraInfo) -> CameraInfo:
    """Return the calibration of a camera's region of interest, as if it were the whole sensor.

    The camera's pictures show the region only. One that does not fit is left for `calibration_fault`.
    """
    roi = camera.roi
    if not (roi.width and roi.height and _lies_within(camera)):
        return camera
    k, p = list(camera.k), list(camera.p)
    k[2], k[5] = k[2] - roi.x_offset, k[5] - roi.y_offset
    if p[10]:
        p[2], p[6] = p[2] - roi.x_offset, p[6] - roi.y_offset
    camera.k, camera.p, camera.width, camera.height, camera.roi = k, p, roi.width, roi.height, RegionOfInterest()
    return camera


def resized(camera: CameraInfo, header: Header, width: int, height: int) -> CameraInfo:
    """Return the calibration of a camera for its image scaled to another size.

    Pixel centres stand at whole numbers in CameraInfo, so scaling by s takes cx to s (cx + 1/2) - 1/2. Distortion is in
    units of the focal length and stays. Binning and the region of interest are those of the scaled image: none.

    Args:
        camera: with a width and a height above 0, cropped.
        header: of the scaled image.
        width: of the scaled image in pixels.
        height: of the scaled image in pixels.
    """
    x, y = width / camera.width, height / camera.height
    k, p = list(camera.k), list(camera.p)
    k[0], k[1], k[2] = k[0] * x, k[1] * x, (k[2] + 0.5) * x - 0.5
    k[4], k[5] = k[4] * y, (k[5] + 0.5) * y - 0.5
    if p[10]:
        p[0], p[1], p[2], p[3] = p[0] * x, p[1] * x, (p[2] + 0.5) * x - 0.5, p[3] * x
        p[5], p[6], p[7] = p[5] * y, (p[6] + 0.5) * y - 0.5, p[7] * y
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model=camera.distortion_model,
        d=camera.d,
        k=k,
        r=camera.r,
        p=p,
    )


def _lies_within(camera: CameraInfo) -> bool:
    """Return whether the region of interest is a part of the sensor."""
    roi = camera.roi
    return bool(roi.x_offset + roi.width <= camera.width and roi.y_offset + roi.height <= camera.height)
