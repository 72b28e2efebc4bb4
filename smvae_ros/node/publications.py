"""Latent and predictions on their way out; nothing is made for a topic that nobody listens to."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from smvae_ros.conversions.arrays import fill
from smvae_ros.conversions.bindings import Binding
from smvae_ros.conversions.message_types import MESSAGES
from smvae_ros.conversions.point_cloud import points_from_depth
from smvae_ros.msg import Latent
from smvae_ros.node.worker import TOGETHER
from smvae_ros.settings import prediction_topics
from smvae_ros.synchronizer.set_synchronizer import SampleSet

try:
    from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
except ImportError:
    create_cloud_xyz32 = None

if TYPE_CHECKING:
    from smvae_core.inference.engine import Fusion


class Publications:
    """The publishers that a checkpoint's modalities call for.

    `wanted` and `publish` may be called from another thread than the executor's.
    """

    def __init__(self, node: LifecycleNode, bindings: tuple[Binding, ...]) -> None:
        self._node = node
        self._bindings = {binding.modality.name: binding for binding in bindings}
        modalities = [binding.modality for binding in bindings]
        topics = prediction_topics(modalities)
        self._latent = self._publisher(Latent, "~/latent")
        self._predicted = {
            name: self._publisher(MESSAGES[binding.predicted], topics[name]) for name, binding in self._bindings.items()
        }
        self._depth = next((m.name for m in modalities if m.preprocessing.kind == "depth"), None)
        self._periods: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._points: LifecyclePublisher | None = None
        if self._depth is not None and create_cloud_xyz32 is None:
            node.get_logger().warning("sensor_msgs_py is not installed: ~/predicted/points is not published")
        elif self._depth is not None and "points" not in self._bindings:
            self._points = self._publisher(PointCloud2, "~/predicted/points")

    def limit(self, rates: Mapping[str, float]) -> None:
        """From now on make at most so many predictions of a modality per second, 0 unlimited."""
        periods = {name: 1.0 / rate if rate else 0.0 for name, rate in rates.items()}
        if periods != self._periods:
            self._periods, self._next = periods, {}

    def wanted(self) -> set[str] | None:
        """The modalities of which a prediction is due and listened to; None if the next set would be for nobody."""
        wanted = {name for name, publisher in self._predicted.items() if publisher.get_subscription_count()}
        if self._points is not None and self._points.get_subscription_count():
            wanted.add(self._depth)
        wanted = {name for name in wanted if self._due(name, monotonic())}
        return wanted if wanted or self._latent.get_subscription_count() else None

    def publish(
        self, sample_set: SampleSet, fusion: Fusion, frames: Mapping[str, str], camera: CameraInfo | None
    ) -> None:
        """Publish what one set gave, stamped as the set.

        Args:
            frames: by modality, the frame id that its sensor last gave.
            camera: the depth camera, if it is known.

        Raises:
            CalibrationError: somebody listens to the points, and `camera` cannot be used.
        """
        stamp = Time(nanoseconds=sample_set.stamp_ns).to_msg()
        # Of the first modality in the set, which is the reference where that is alive.
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
            self._publish_prediction(name, header, self._bindings[name].modality.to_physical(prediction), camera)

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
        # From when it was due, not from now, or sets that come a little too often would miss every other turn.
        self._next[name] = max(due + period, now)
        return True

    def _publish_prediction(self, name: str, header: Header, physical: np.ndarray, camera: CameraInfo | None) -> None:
        publisher = self._predicted[name]
        if publisher.get_subscription_count():
            message = MESSAGES[self._bindings[name].predicted](header=header)
            fill(self._bindings[name], message, physical)
            publisher.publish(message)
        if (
            name == self._depth
            and camera is not None
            and self._points is not None
            and self._points.get_subscription_count()
        ):
            points = points_from_depth(physical, camera.width, camera.height, camera.k)
            frame = camera.header.frame_id or header.frame_id
            self._points.publish(create_cloud_xyz32(Header(stamp=header.stamp, frame_id=frame), points))

    def _publisher(self, message: type, topic: str) -> LifecyclePublisher:
        # Reliable, as REP 2003 has it for publishers: listeners of either kind match. No deeper than need be: it stays
        # fresh.
        return self._node.create_lifecycle_publisher(
            message,
            topic,
            QoSProfile(depth=TOGETHER),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
