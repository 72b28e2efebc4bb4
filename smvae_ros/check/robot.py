"""A running robot as the source of a check: its topics and some seconds of their messages. Imports ROS 2."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, time_ns

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible, qos_profile_sensor_data
from rclpy.topic_endpoint_info import TopicEndpointInfo

from smvae_core.errors import ConfigurationError
from smvae_core.interrupts import interruptible, uninterrupted
from smvae_ros.check.facts import Feed, Topic
from smvae_ros.conversions.bindings import COMPRESSED, IMAGE
from smvae_ros.conversions.message_definitions import installed_types
from smvae_ros.conversions.message_types import message_class

# Topics that every node has, or that bring no sensor.
_OF_ROS = ("/rosout", "/parameter_events", "/clock")
# Messages that may wait while the check is busy: bursts of a fast sensor fit, as in the node.
_IMAGES, _NUMBERS = 5, 200
# Discovery has come to rest when topics were found, and nothing new for so long.
_QUIET_S = 1.5
_DISCOVERY_S = 5.0


@contextmanager
def listening(seconds: float) -> Iterator[RobotSource]:
    """Listen to the robot; what each feed takes lasts so many seconds."""
    with uninterrupted():
        context = Context()
        rclpy.init(context=context)
        node = Node("smvae_check", context=context, enable_rosout=False, start_parameter_services=False)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        try:
            with interruptible():
                yield RobotSource(node, executor, seconds)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown(context=context)


class RobotSource:
    """The topics of a robot, and their messages.

    Attributes:
        topics: the topics that somebody publishes, by name.
        notes: sentences on topics that cannot be drafted; all else that is wrong with a robot shows in its messages.
    """

    def __init__(self, node: Node, executor: SingleThreadedExecutor, seconds: float) -> None:
        self.topics: dict[str, Topic] = {}
        self.notes: list[str] = []
        self._node, self._executor, self._seconds = node, executor, seconds
        self._discover()

    @contextmanager
    def feed(self, wanted: Mapping[str, str], types: Mapping[str, Collection[str]]) -> Iterator[Feed]:
        """Yield the messages of some topics as they arrive, for the seconds of this source.

        Args:
            wanted: topics by modality.
            types: unused here, since `wanted` names topics of fitting types only.

        Raises:
            ConfigurationError: the package of a message type is not installed here.
        """
        arrived: deque[tuple[str, int, bytes]] = deque()

        def receiver(name: str) -> Callable[[bytes], None]:
            return lambda data: arrived.append((name, time_ns(), data))

        def messages() -> Iterator[tuple[str, int, bytes]]:
            end = monotonic() + self._seconds
            while (left := end - monotonic()) > 0:
                self._executor.spin_once(timeout_sec=left)
                while arrived:
                    yield arrived.popleft()

        found = {name: self.topics[topic].types[0] for name, topic in wanted.items()}
        store = installed_types(set(found.values()))
        subscriptions = [
            self._node.create_subscription(
                message_class(found[name]), topic, receiver(name), _qos(found[name]), raw=True
            )
            for name, topic in wanted.items()
        ]
        try:
            yield Feed(store, messages())
        finally:
            for subscription in subscriptions:
                self._node.destroy_subscription(subscription)

    def _discover(self) -> None:
        begin = changed = monotonic()
        while monotonic() - begin < _DISCOVERY_S and not (self.topics and monotonic() - changed > _QUIET_S):
            self._executor.spin_once(timeout_sec=0.1)
            found = self._published()
            if found != self.topics:
                self.topics, changed = found, monotonic()

    def _published(self) -> dict[str, Topic]:
        topics = {}
        for name, types in sorted(self._node.get_topic_names_and_types()):
            publishers = [] if name in _OF_ROS else self._node.get_publishers_info_by_topic(name)
            if publishers:
                topics[name] = Topic(
                    name,
                    tuple(types),
                    len(publishers),
                    None,
                    _offered(publishers),
                    _incompatible(publishers),
                    all(map(_is_installed, types)),
                )
        return topics


def _qos(message_type: str) -> QoSProfile:
    """Return sensor data, with a queue in which bursts of a fast sensor fit; images are few and large."""
    depth = _IMAGES if message_type in (IMAGE, COMPRESSED) else _NUMBERS
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def _is_installed(message_type: str) -> bool:
    try:
        message_class(message_type)
    except ConfigurationError:
        return False
    return True


def _offered(publishers: list[TopicEndpointInfo]) -> str:
    words = dict.fromkeys(
        f"{one.qos_profile.reliability.name}, {one.qos_profile.durability.name}".lower().replace("_", " ")
        for one in publishers
    )
    return "; ".join(words)


def _incompatible(publishers: list[TopicEndpointInfo]) -> str:
    """Return why the node's own subscription, sensor data, does not match a publisher; empty if it matches all."""
    for one in publishers:
        compatibility, reason = qos_check_compatible(one.qos_profile, qos_profile_sensor_data)
        if compatibility == QoSCompatibility.ERROR:
            return str(reason)
    return ""
