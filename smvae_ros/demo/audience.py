"""The audience of `make live`: what robot and fusion node bring, and the parameters that make sensors fail."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from smvae_core.modality import Modality
from smvae_ros.conversions.arrays import raw_array, stamp_ns
from smvae_ros.conversions.bindings import bind
from smvae_ros.msg import FusionStatus, Latent
from smvae_ros.simulated_robot.node import TOPICS

SENSORS = {"rgb": "rgb", "depth": "depth", "force": "wrench", "action": "action"}
"""The robot's sensor of each modality."""

_WINDOW_S = 1.0


@dataclass
class Recent:
    """The messages of the last second, and the newest of each kind.

    Attributes:
        arrivals: when messages arrived, seconds.
        seen: the newest message of the sensor; None before the first.
        predicted: the newest prediction; None before the first.
        truths: by stamp, the newest pictures without fault.
        nmse: NMSE of predictions against the truth, by time of arrival.
    """

    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    seen: Any = None
    predicted: Any = None
    truths: dict[int, np.ndarray] = field(default_factory=dict)
    nmse: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=200))


class Audience(Node):
    """Listens to robot and fusion node, and makes the robot's sensors fail.

    Attributes:
        bindings: by modality.
        trust: by modality, that of the newest set which had it, 0 to 1; empty where the checkpoint cannot tell.
        distrusted: modalities that the newest set's verdict names.

    Args:
        means: by modality, the training mean in model units: the trivial prediction.
    """

    def __init__(self, namespace: str, modalities: tuple[Modality, ...], means: dict[str, np.ndarray]) -> None:
        super().__init__("audience", namespace=namespace)
        self.bindings = {binding.modality.name: binding for binding in bind(modalities, {})}
        self.trust: dict[str, float] = {}
        self.distrusted: tuple[str, ...] = ()
        self._recent = {name: Recent() for name in self.bindings}
        self._sets: deque[tuple[float, frozenset[str]]] = deque(maxlen=200)
        self._means = means
        self._faults = self.create_client(SetParameters, "robot/set_parameters")
        for name in self.bindings:
            topic, kind = TOPICS[SENSORS[name]]
            self.create_subscription(kind, topic, self._taking(name, self._take_seen), qos_profile_sensor_data)
            predicted = f"fusion/predicted/{topic.split('/')[0]}"
            self.create_subscription(kind, predicted, self._taking(name, self._take_predicted), qos_profile_sensor_data)
            if self.bindings[name].modality.is_image:
                truth = f"robot/truth/{name}"
                self.create_subscription(Image, truth, self._taking(name, self._take_truth), qos_profile_sensor_data)
        self.create_subscription(Latent, "fusion/latent", self._take_latent, qos_profile_sensor_data)
        self.create_subscription(FusionStatus, "fusion/status", self._take_status, 1)

    def ready(self) -> bool:
        """Return whether the robot moves and the fusion node answers it."""
        return bool(self._sets) and self._faults.service_is_ready()

    def make_fail(self, faults: dict[str, str]) -> None:
        """Give each of the robot's sensors its fault, or none."""
        parameters = [Parameter(f"{sensor}.fault", value=faults.get(sensor, "none")) for sensor in SENSORS.values()]
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg() for parameter in parameters])
        self._faults.call_async(request)

    def rate(self, name: str) -> float:
        """Return the messages per second of a sensor, over the last second."""
        begin = time.monotonic() - _WINDOW_S
        return sum(1 for at in self._recent[name].arrivals if at > begin) / _WINDOW_S

    def share_of_sets(self, name: str) -> float:
        """Return the share of the last second's sets that a modality was in; NaN without sets."""
        begin = time.monotonic() - _WINDOW_S
        held = [name in names for at, names in self._sets if at > begin]
        return float(np.mean(held)) if held else float("nan")

    def nmse(self, name: str) -> float:
        """Return the mean NMSE of the last second's predictions of a camera; NaN for other modalities."""
        begin = time.monotonic() - _WINDOW_S
        values = [value for at, value in self._recent[name].nmse if at > begin]
        return float(np.mean(values)) if values else float("nan")

    def seen(self, name: str) -> np.ndarray | None:
        """Return what the sensor brought last, in physical units; None if that was more than a second ago."""
        recent = self._recent[name]
        late = not recent.arrivals or recent.arrivals[-1] < time.monotonic() - _WINDOW_S
        return None if late else self._raw(name, recent.seen)

    def predicted(self, name: str) -> np.ndarray | None:
        """Return what was predicted last, in physical units; None before the first."""
        message = self._recent[name].predicted
        return None if message is None else self._raw(name, message)

    def _taking(self, name: str, take: Any) -> Any:
        return lambda message: take(name, message)

    def _raw(self, name: str, message: Any) -> np.ndarray:
        return raw_array(self.bindings[name], [message])

    def _take_seen(self, name: str, message: Any) -> None:
        recent = self._recent[name]
        recent.arrivals.append(time.monotonic())
        recent.seen = message

    def _take_truth(self, name: str, message: Any) -> None:
        truths = self._recent[name].truths
        truths[stamp_ns(message)] = self._raw(name, message)
        for old in sorted(truths)[:-20]:
            del truths[old]

    def _take_predicted(self, name: str, message: Any) -> None:
        recent, modality = self._recent[name], self.bindings[name].modality
        recent.predicted = message
        if not modality.is_image:
            return
        at_ns = stamp_ns(message)
        nearest = min(recent.truths, key=lambda at: abs(at - at_ns), default=None)
        if nearest is not None and abs(nearest - at_ns) < 30_000_000:
            truth, predicted = modality.to_model(recent.truths[nearest]), modality.to_model(self._raw(name, message))
            trivial = float(np.square(truth - self._means[name]).mean())
            recent.nmse.append((time.monotonic(), float(np.square(truth - predicted).mean()) / trivial))

    def _take_latent(self, message: Latent) -> None:
        self._sets.append((time.monotonic(), frozenset(message.modalities)))
        self.distrusted = tuple(message.distrusted)
        self.trust |= zip(message.modalities, message.trust)

    def _take_status(self, message: FusionStatus) -> None:
        # A modality that has left the sets is in no latent, but is judged on.
        judged = {one.name: one.trust for one in message.modalities if one.distrusted and one.trust >= 0.0}
        self.trust |= judged
