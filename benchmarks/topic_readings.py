"""Readings of the peg's pose from topics: of the fusion node's latents, or of sets that other feeds read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from smvae_ros.msg import Latent
from std_srvs.srv import Trigger

from benchmarks.insertion_feeds import SENSORS, Feed
from benchmarks.pose_head import POSE, Head
from smvae_core.modality import Modality
from smvae_ros.conversions.arrays import set_arrays, stamp_ns
from smvae_ros.conversions.message_definitions import installed_types
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.subscriptions import Subscriptions
from smvae_ros.settings import default_settings
from smvae_ros.synchronizer.sample_set import SampleSet

_NO_TRUTH = np.full((1, POSE + 1), np.nan)


class Reading(NamedTuple):
    """What was read from one set.

    Attributes:
        stamp_ns: of the set.
        modalities: that were in it.
        values: pose, probability of a contact and σ of the pose, (9,).
    """

    stamp_ns: int
    modalities: frozenset[str]
    values: np.ndarray


class Readings(Protocol):
    """Where readings come from.

    Attributes:
        waiting: readings that nobody has taken, oldest first.
        whole: the modalities of a whole set.
    """

    waiting: deque[Reading]
    whole: frozenset[str]

    def forget(self) -> Sequence[Future]:
        """Begin anew; return the calls that must be answered until the past is forgotten."""

    def close(self) -> None:
        """Unsubscribe."""


class NodeReadings:
    """What a head reads from the latents of a fusion node, whose sets hold the command."""

    whole = frozenset((*SENSORS, "action"))

    def __init__(self, node: Node, head: Head) -> None:
        self.waiting: deque[Reading] = deque()
        self._head = head
        self._reset = node.create_client(Trigger, "fusion/reset")
        node.create_subscription(Latent, "fusion/latent", self._take, QoSProfile(depth=20))

    def forget(self) -> Sequence[Future]:
        """Let the node begin anew."""
        return [self._reset.call_async(Trigger.Request())]

    def close(self) -> None:
        """Nothing to do: the subscription ends with the node that has it."""

    def _take(self, latent: Latent) -> None:
        self.waiting.append(Reading(stamp_ns(latent), frozenset(latent.modalities), self._values(latent)))

    def _values(self, latent: Latent) -> np.ndarray:
        mean, log_variance = np.asarray(latent.mean, np.float32), np.asarray(latent.log_variance, np.float32)
        return np.asarray(self._head.read(np.concatenate([mean, 0.5 * log_variance])[None])[0])


class SetReadings:
    """What a feed of lock-step time reads from the sets that the sensors' messages make, in this process.

    Messages become sets as in the fusion node, by its own code. The command is in none of them.
    """

    whole = frozenset(SENSORS)

    def __init__(self, node: Node, modalities: Sequence[Modality], feed: Feed) -> None:
        self.waiting: deque[Reading] = deque()
        self._feed = feed
        self._feed.begin(1)
        sensors = [modality for modality in modalities if modality.name in SENSORS]
        settings = default_settings(sensors)
        bindings = settings.bindings(sensors)
        types = installed_types({binding.type for binding in bindings})
        self._bindings = tuple(binding.reading(types) for binding in bindings)
        self._subscriptions = Subscriptions(
            node,
            self._bindings,
            settings,
            submit=self._take,
            forget=lambda _: None,
            learn=lambda _: None,
            statistics=Statistics(),
            warnings=RepeatedWarnings(node.get_logger().warning),
        )

    def forget(self) -> Sequence[Future]:
        """Begin anew, at once."""
        self._subscriptions.reset("a new attempt begins")
        self._feed.begin(1)
        return []

    def close(self) -> None:
        """Unsubscribe."""
        self._subscriptions.destroy()

    def _take(self, sample_set: SampleSet) -> None:
        arrays, _ = set_arrays(self._bindings, sample_set)
        (values,) = self._feed.read([0], [arrays], _NO_TRUTH)
        self.waiting.append(Reading(sample_set.stamp_ns, frozenset(arrays), np.asarray(values)))
