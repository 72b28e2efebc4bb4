"""Publications: the latent and the predictions of a set; nothing is computed for a topic that nobody listens to."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from smvae_ros.conversions.arrays import fill
from smvae_ros.conversions.bindings import Binding, depth_modality
from smvae_ros.conversions.message_types import message_class
from smvae_ros.conversions.point_cloud import points_from_depth
from smvae_ros.msg import Latent
from smvae_ros.node.worker import TOGETHER
from smvae_ros.settings import prediction_topics
from smvae_ros.synchronizer.sample_set import SampleSet

try:
    from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
except ImportError:
    create_cloud_xyz32 = None

if TYPE_CHECKING:
    from smvae_core.inference.engine import Fusion


class Publications:
    """The publishers of the latent, of each modality's predictions and of the points.

    `wanted` and `publish` are called on the worker's thread, the rest on the executor's.
    """

    def __init__(self, node: LifecycleNode, bindings: tuple[Binding, ...]) -> None:
        self._node = node
        self._bindings = {binding.modality.name: binding for binding in bindings}
        modalities = [binding.modality for binding in bindings]
        topics = prediction_topics(modalities)
        self._latent = self._publisher(Latent, "~/latent")
        self._predicted = {
            name: self._publisher(message_class(binding.predicted), topics[name])
            for name, binding in self._bindings.items()
        }
        self._depth = depth_modality(bindings)
        self._periods: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._points: LifecyclePublisher | None = None
        if self._depth is not None and create_cloud_xyz32 is None:
            node.get_logger().warning("sensor_msgs_py is not installed: ~/predicted/points is not published")
        elif self._depth is not None and "points" not in self._bindings:
            self._points = self._publisher(PointCloud2, "~/predicted/points")

    def limit(self, rates: Mapping[str, float]) -> None:
        """Limit the predictions of each modality to a rate per second; 0 is unlimited."""
        periods = {name: 1.0 / rate if rate else 0.0 for name, rate in rates.items()}
        if periods != self._periods:
            self._periods, self._next = periods, {}

    def wanted(self) -> set[str] | None:
        """Return the modalities to predict from the next set: heard and due. None: nobody listens to anything."""
        wanted = {name for name, publisher in self._predicted.items() if publisher.get_subscription_count()}
        if self._depth is not None and self._points is not None and self._points.get_subscription_count():
            wanted.add(self._depth)
        wanted = {name for name in wanted if self._due(name, monotonic())}
        return wanted if wanted or self._latent.get_subscription_count() else None

    def publish(
        self, sample_set: SampleSet, fusion: Fusion, frames: Mapping[str, str], cameras: Mapping[str, CameraInfo]
    ) -> None:
        """Publish latent and predictions of one set, with the stamp of the set.

        Args:
            frames: by modality, the frame id that its sensor last gave.
            cameras: by image modality, the calibration of its camera where it is known.

        Raises:
            CalibrationError: somebody listens to the points, and the camera's calibration cannot be used.
        """
        stamp = Time(nanoseconds=sample_set.stamp_ns).to_msg()
        # The first modality of a set is the reference where that is alive.
        frame = next((frames[name] for name in sample_set.samples if name in frames), "")
        self._latent.publish(
            Latent(
                header=Header(stamp=stamp, frame_id=frame),
                modalities=list(fusion.modalities),
                mean=array("f", fusion.mean.tobytes()),
                log_variance=array("f", fusion.log_variance.tobytes()),
                attention=[fusion.attention[name] for name in fusion.modalities],
            )
        )
        for name, prediction in fusion.predictions.items():
            header = Header(stamp=stamp, frame_id=frames.get(name, ""))
            self._publish_prediction(name, header, self._bindings[name].modality.to_physical(prediction), cameras)

    def destroy(self) -> None:
        """Take all publishers off the node."""
        for publisher in (self._latent, *self._predicted.values(), self._points):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _due(self, name: str, now: float) -> bool:
        period = self._periods.get(name, 0.0)
        due = self._next.get(name, now)
        if now < due:
            return False
        # Counted from when it was due: counted from now, sets that come slightly too often would miss every other turn.
        self._next[name] = max(due + period, now)
        return True

    def _publish_prediction(
        self, name: str, header: Header, physical: np.ndarray, cameras: Mapping[str, CameraInfo]
    ) -> None:
        publisher = self._predicted[name]
        if publisher.get_subscription_count():
            message = message_class(self._bindings[name].predicted)(header=header)
            fill(self._bindings[name], message, physical)
            publisher.publish(message)
        camera = cameras.get(name)
        if name != self._depth or camera is None or self._points is None:
            return
        if self._points.get_subscription_count():
            points = points_from_depth(physical, camera.width, camera.height, camera.k)
            frame = camera.header.frame_id or header.frame_id
            self._points.publish(create_cloud_xyz32(Header(stamp=header.stamp, frame_id=frame), points))

    def _publisher(self, message: type[Any], topic: str) -> LifecyclePublisher:
        # Reliable, as REP 2003 asks of publishers, so that listeners of either kind match. A deeper queue would age.
        publisher: LifecyclePublisher = self._node.create_lifecycle_publisher(
            message,
            topic,
            QoSProfile(depth=TOGETHER),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        return publisher
