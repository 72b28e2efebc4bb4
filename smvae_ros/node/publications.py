"""Publications: the latent and the predictions of a set; nothing is computed for a topic that nobody listens to."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from smvae_core.errors import SMVAEError
from smvae_ros.conversions.arrays import fill, image_size
from smvae_ros.conversions.bindings import Binding, depth_modality
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.message_types import message_class
from smvae_ros.conversions.point_cloud import CalibrationError, points_from_depth
from smvae_ros.msg import Latent
from smvae_ros.node.callback_guard import described
from smvae_ros.node.cameras import calibration_fault, resized, shape_fault
from smvae_ros.settings import prediction_topics
from smvae_ros.synchronizer.sample_set import TOGETHER, SampleSet

try:
    from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
except ImportError:
    create_cloud_xyz32 = None

if TYPE_CHECKING:
    from smvae_core.inference.engine import Fusion
    from smvae_ros.node.cameras import Cameras

# The CameraInfo of a camera that is there arrives soon after its first image.
_CAMERA_PATIENCE_S = 2.0


class Publications:
    """The publishers of the latent, of each modality's predictions with their CameraInfo, and of the points.

    `wanted` and `publish` are called on the worker's thread, the rest on the executor's.
    """

    def __init__(self, node: LifecycleNode, bindings: tuple[Binding, ...]) -> None:
        self._node = node
        self._bindings = {binding.modality.name: binding for binding in bindings}
        topics = prediction_topics([binding.modality for binding in bindings])
        self._latent = self._publisher(Latent, "~/latent")
        self._predicted = {
            name: self._publisher(message_class(binding.predicted), topics[name])
            for name, binding in self._bindings.items()
        }
        self._camera_infos = {
            name: self._publisher(CameraInfo, f"{topics[name]}/camera_info")
            for name, binding in self._bindings.items()
            if binding.modality.is_image
        }
        self._depth = depth_modality(bindings)
        self._periods: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._points: LifecyclePublisher | None = None
        self._sizes: dict[str, tuple[int, int]] = {}
        self._no_camera_since: float | None = None
        if self._depth is not None and create_cloud_xyz32 is None:
            node.get_logger().warning("sensor_msgs_py is not installed: ~/predicted/points is not published")
        elif self._depth is not None and "points" not in self._bindings:
            self._points = self._publisher(PointCloud2, "~/predicted/points")

    def limit(self, rates: Mapping[str, float]) -> None:
        """Limit the predictions of each modality to a rate per second; 0 is unlimited."""
        periods = {name: 1.0 / rate if rate else 0.0 for name, rate in rates.items()}
        if periods != self._periods:
            self._periods, self._next = periods, {}

    def learn(self, binding: Binding) -> None:
        """Take a binding in place of the one of the same modality."""
        self._bindings[binding.modality.name] = binding

    def wanted(self) -> set[str] | None:
        """Return the modalities to predict from the next set: heard and due. None: nobody listens to anything."""
        wanted = {name for name, publisher in self._predicted.items() if publisher.get_subscription_count()}
        if self._depth is not None and self._points is not None and self._points.get_subscription_count():
            wanted.add(self._depth)
        now = monotonic()
        wanted = {name for name in wanted if self._due(name, now)}
        return wanted if wanted or self._latent.get_subscription_count() else None

    def publish(
        self,
        sample_set: SampleSet,
        fusion: Fusion,
        frames: Mapping[str, str],
        cameras: Cameras,
        distrusted: Sequence[str] = (),
    ) -> dict[str, str]:
        """Publish latent and predictions of one set, with the stamp of the set; each whether or not the others fail.

        Args:
            frames: by modality, the frame id that its sensor last gave.
            cameras: the calibrations that are known.
            distrusted: names of the modalities that are distrusted.

        Returns:
            By topic that failed, the reason.
        """
        failures: dict[str, str] = {}

        def attempt(publisher: LifecyclePublisher, message: Callable[[], Any]) -> None:
            try:
                publisher.publish(message())
            except Exception as error:
                failures[publisher.topic_name] = str(error) if isinstance(error, SMVAEError) else described(error)

        stamp = Time(nanoseconds=sample_set.stamp_ns).to_msg()
        # The first modality of a set is the reference where that is alive.
        frame = next((frames[name] for name in sample_set.samples if name in frames), "")
        attempt(self._latent, lambda: _latent(Header(stamp=stamp, frame_id=frame), fusion, distrusted))
        for name, prediction in fusion.predictions.items():
            binding = self._bindings[name]
            try:
                physical = binding.modality.to_physical(prediction)
            except Exception as error:
                failures[self._predicted[name].topic_name] = described(error)
                continue
            header = Header(stamp=stamp, frame_id=frames.get(name, ""))
            if name in fusion.modalities and self._needs_size(name, cameras):
                with suppress(ConversionError):
                    self._sizes[name] = image_size(binding, sample_set.samples[name][-1].data)
            self._publish_prediction(name, header, physical, cameras, attempt)
        return failures

    def destroy(self) -> None:
        """Take all publishers off the node."""
        for publisher in (self._latent, *self._predicted.values(), *self._camera_infos.values(), self._points):
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
        self,
        name: str,
        header: Header,
        physical: npt.NDArray[np.float32],
        cameras: Cameras,
        attempt: Callable[[LifecyclePublisher, Callable[[], Any]], None],
    ) -> None:
        publisher, binding, camera = self._predicted[name], self._bindings[name], cameras.known.get(name)
        if publisher.get_subscription_count():
            attempt(publisher, lambda: _prediction(binding, header, physical))
        camera_info = self._camera_infos.get(name)
        if camera_info is not None and camera is not None and camera_info.get_subscription_count():
            height, width = physical.shape[:2]
            attempt(camera_info, lambda: resized(self._checked(name, camera, cameras), header, width, height))
        points = self._points
        if name == self._depth and points is not None and points.get_subscription_count():
            if camera is not None:
                self._no_camera_since = None
                rectified = name in cameras.rectified
                attempt(points, lambda: _points(self._checked(name, camera, cameras), header, physical, rectified))
            elif self._patience_is_over():
                attempt(points, lambda: _no_camera(cameras.topics.get(name, "its topic")))

    def _needs_size(self, name: str, cameras: Cameras) -> bool:
        listening = [self._camera_infos.get(name), self._points if name == self._depth else None]
        return name in cameras.known and any(one.get_subscription_count() for one in listening if one is not None)

    def _checked(self, name: str, camera: CameraInfo, cameras: Cameras) -> CameraInfo:
        fault = calibration_fault(camera)
        if not fault and name in self._sizes:
            fault = shape_fault(camera, *self._sizes[name])
        if fault:
            raise CalibrationError(f"{fault} (on {cameras.topics.get(name, 'its topic')})")
        return camera

    def _patience_is_over(self) -> bool:
        if self._no_camera_since is None:
            self._no_camera_since = monotonic()
        return monotonic() - self._no_camera_since > _CAMERA_PATIENCE_S

    def _publisher(self, message: type[Any], topic: str) -> LifecyclePublisher:
        # Reliable, as REP 2003 asks of publishers, so that listeners of either kind match. A deeper queue would age.
        publisher: LifecyclePublisher = self._node.create_lifecycle_publisher(
            message,
            topic,
            QoSProfile(depth=TOGETHER),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            # The listener's own rclpy says when they do not match. Here each would cost time with every message.
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        )
        return publisher


def _latent(header: Header, fusion: Fusion, distrusted: Sequence[str]) -> Latent:
    return Latent(
        header=header,
        modalities=list(fusion.modalities),
        mean=array("f", fusion.mean.tobytes()),
        log_variance=array("f", fusion.log_variance.tobytes()),
        attention=[fusion.attention[name] for name in fusion.modalities],
        attention_of_memory=fusion.attention_of_memory,
        memory_age=-1.0 if fusion.memory_age is None else fusion.memory_age,
        trust=[fusion.trust[name] for name in fusion.modalities if name in fusion.trust],
        distrusted=list(distrusted),
    )


def _prediction(binding: Binding, header: Header, physical: npt.NDArray[np.float32]) -> Any:
    message = message_class(binding.predicted)(header=header)
    fill(binding, message, physical)
    return message


def _points(camera: CameraInfo, header: Header, depth: npt.NDArray[np.float32], rectified: bool) -> PointCloud2:
    p = camera.p
    if rectified and p[0] and p[5]:
        k = np.array([p[0], 0.0, p[2], 0.0, p[5], p[6], 0.0, 0.0, 1.0])
        points = points_from_depth(depth, camera.width, camera.height, k)
    else:
        points = points_from_depth(depth, camera.width, camera.height, camera.k, camera.d, camera.distortion_model)
    return create_cloud_xyz32(Header(stamp=header.stamp, frame_id=camera.header.frame_id or header.frame_id), points)


def _no_camera(topic: str) -> PointCloud2:
    raise CalibrationError(
        f"no CameraInfo came on {topic}, without which depth gives no points; publish it there or remap that topic"
    )
