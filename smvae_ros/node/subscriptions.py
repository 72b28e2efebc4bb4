"""From topics to sets: the subscriptions of an active node, and the timer that keeps the synchroniser's deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from smvae_ros.conversions.bindings import COMPRESSED, Binding
from smvae_ros.conversions.message_types import MESSAGES
from smvae_ros.node.message_loss import MessageLoss
from smvae_ros.node.worker import TOGETHER
from smvae_ros.settings import FusionSettings, nanoseconds
from smvae_ros.synchronizer.set_synchronizer import SampleSet

# Of a 1 kHz sensor nothing may be lost while the executor is busy.
_QOS_DEPTH = {"force": 200, "vector": 10}


class Intake:
    """Subscribes when it is made, unsubscribes when it is destroyed; all on the executor's thread.

    Args:
        submit: takes each set.
        forget: called when time went back: what is under way belongs to the past.

    Attributes:
        synchronizer: the sets' counts and epoch.
        bindings: by modality of the checkpoint.
        settings: in force.
        topics: by modality, fully resolved.
        frames: by modality, the frame id that its sensor last gave.
        arrived_ns: by modality, when its last message arrived, node clock.
        stamps_ns: by modality, the stamp of that message; 0 for none.
        camera: the depth camera, once it is known.
        losses: by modality, for those that are subscribed to.
    """

    def __init__(
        self,
        node: Node,
        bindings: tuple[Binding, ...],
        settings: FusionSettings,
        submit: Callable[[SampleSet], None],
        forget: Callable[[], None],
    ) -> None:
        self.synchronizer = settings.synchronizer(simulated=node.get_clock().ros_time_is_active)
        self.bindings = {binding.modality.name: binding for binding in bindings}
        self.settings = settings
        self.topics = {name: node.resolve_topic_name(stream.topic) for name, stream in settings.streams.items()}
        self.frames: dict[str, str] = {}
        self.arrived_ns: dict[str, int] = {}
        self.stamps_ns: dict[str, int] = {}
        self.camera: CameraInfo | None = None
        self.losses: dict[str, MessageLoss] = {}
        self._node, self._clock = node, node.get_clock()
        self._submit, self._forget = submit, forget
        self._epoch = 0
        self._armed_ns: int | None = None
        self._subscriptions: dict[str, list[Subscription]] = {}
        # On the node's clock, so that a paused or fast simulation pauses and hurries the deadlines as well.
        self._timer = node.create_timer(1.0, self._poll, clock=self._clock, autostart=False)
        self._jump = self._clock.create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=lambda _: self._jumped(),
        )
        try:
            for name, stream in settings.streams.items():
                if stream.enabled:
                    self._subscribe(name, stream.topic)
        except BaseException:
            self.destroy()
            raise

    def reset(self) -> int:
        """Forget all samples and start a new epoch; returns its number."""
        self.synchronizer.reset()
        self._forget_past()
        self._arm()
        return self._epoch

    def change(self, settings: FusionSettings) -> None:
        """Go on with other values of what may change at any time."""
        for name, stream in settings.streams.items():
            if stream.enabled and name not in self._subscriptions:
                self._subscribe(name, stream.topic)
            elif not stream.enabled:
                self._unsubscribe(name)
        self.settings = settings
        now_ns = self._clock.now().nanoseconds
        max_wait_ns = nanoseconds(settings.max_wait)
        self._hand_on(self.synchronizer.change(settings.synchronizer_streams(), max_wait_ns, now_ns))

    def destroy(self) -> None:
        """Unsubscribe from everything."""
        for name in list(self._subscriptions):
            self._unsubscribe(name)
        self._node.destroy_timer(self._timer)
        self._jump.unregister()

    def _subscribe(self, name: str, topic: str) -> None:
        binding = self.bindings[name]

        def receive(message: Any) -> None:
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            self.frames[name] = message.header.frame_id
            now_ns = self._clock.now().nanoseconds
            self.arrived_ns[name], self.stamps_ns[name] = now_ns, stamp_ns
            self._hand_on(self.synchronizer.add(name, stamp_ns, message, now_ns))

        # As many images as the worker lets wait: what came while the machine slept is not lost before it can be fused.
        depth = TOGETHER if binding.modality.is_image else _QOS_DEPTH[binding.modality.preprocessing.kind]
        self.losses[name] = self._create(name, MESSAGES[binding.type], topic, receive, depth)
        # Of several depth cameras, the first is the one whose prediction becomes points.
        depths = [n for n, b in self.bindings.items() if b.modality.preprocessing.kind == "depth"]
        if depths[:1] == [name]:
            self._create(name, CameraInfo, _camera_info(topic, binding.type), self._see_camera, 1)

    def _unsubscribe(self, name: str) -> None:
        for subscription in self._subscriptions.pop(name, []):
            self._node.destroy_subscription(subscription)

    def _create(self, name: str, message: type, topic: str, callback: Callable[[Any], None], depth: int) -> MessageLoss:
        def take(first: Any, info: dict[str, Any]) -> None:
            loss.see(info["publication_sequence_number"])
            callback(first)
            # The rest of a burst at once: going through the executor costs several times what taking a message does.
            with subscription.handle:
                for _ in range(depth - 1):
                    taken = subscription.handle.take_message(message, False)
                    if taken is None:
                        return
                    loss.see(taken[1]["publication_sequence_number"])
                    callback(taken[0])

        subscription = self._node.create_subscription(
            message,
            topic,
            take,
            QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._note_publisher(self._node.resolve_topic_name(topic), event)
            ),
        )
        loss = MessageLoss(subscription.get_publisher_count)
        self._subscriptions.setdefault(name, []).append(subscription)
        return loss

    def _note_publisher(self, topic: str, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()

        def warn() -> None:
            self._node.destroy_timer(timer)
            self._warn_of_publisher(topic, policy)

        # The name of its node is known a little later than the publisher.
        timer = self._node.create_timer(0.5, warn, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _warn_of_publisher(self, topic: str, policy: str) -> None:
        # Nothing but reliability can be asked for, so nothing else can be too little.
        publishers = ", ".join(
            f"{one.node_namespace.rstrip('/')}/{one.node_name} ({one.qos_profile.reliability.name.lower()})"
            for one in self._node.get_publishers_info_by_topic(topic)
        )
        self._node.get_logger().warning(
            f"{topic}: a publisher offers less {policy} than is asked for, so nothing arrives from it; found "
            f"{publishers}; qos_overrides.{topic}.subscription.{policy} says what is asked for"
        )

    def _see_camera(self, message: CameraInfo) -> None:
        self.camera = message

    def _poll(self) -> None:
        self._armed_ns = None
        self._hand_on(self.synchronizer.poll(self._clock.now().nanoseconds))

    def _hand_on(self, sets: list[SampleSet]) -> None:
        if self.synchronizer.resets != self._epoch:
            self._forget_past()
            self._warn_of_jump()
        for sample_set in sets:
            if sample_set.epoch == self._epoch:
                self._submit(sample_set)
        self._arm()

    def _jumped(self) -> None:
        first = not self.synchronizer.resets and not self.synchronizer.sets
        self.reset()
        # A player of bags sets its clock to their start once more as it begins.
        if not first:
            self._warn_of_jump()

    def _warn_of_jump(self) -> None:
        self._node.get_logger().warning(
            f"time went back: all samples forgotten, epoch {self._epoch} begins", throttle_duration_sec=1.0
        )

    def _forget_past(self) -> None:
        self._epoch = self.synchronizer.resets
        self._forget()

    def _arm(self) -> None:
        due_ns = self.synchronizer.next_deadline()
        if due_ns is None:
            self._timer.cancel()
        elif due_ns != self._armed_ns:
            self._timer.timer_period_ns = max(1, due_ns - self._clock.now().nanoseconds)
            self._timer.reset()
        self._armed_ns = due_ns


def _camera_info(topic: str, message: str) -> str:
    """Where image_transport puts it: beside the image, of which a compressed one lies a name deeper."""
    parts = topic.split("/")
    deeper = message == COMPRESSED and parts[-1] in ("compressed", "compressedDepth")
    return "/".join([*parts[: -2 if deeper else -1], "camera_info"])
