"""Subscriptions: messages of the sensors' topics go to the synchroniser, its sets to the worker."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from rclpy.clock import ClockChange, JumpHandle, JumpThreshold, ROSClock, TimeJump
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from smvae_ros.conversions.bindings import IMAGE, Binding
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.message_types import message_class
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.node.cameras import Cameras
from smvae_ros.node.message_loss import MessageLoss
from smvae_ros.node.message_sources import MessageSources
from smvae_ros.node.paced_group import PacedGroup
from smvae_ros.node.publisher_check import several_clocks
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.sensed_time import SensedTime
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.subscribing import refuse_shared_topics, subscribing
from smvae_ros.settings import FusionSettings, nanoseconds
from smvae_ros.synchronizer.sample_set import TOGETHER, SampleSet

# Of a 1 kHz sensor nothing may be lost while the executor is busy, or while it rests.
_QOS_DEPTH = 200


class Subscriptions:
    """Subscriptions of an active node, and the timer that keeps the synchroniser's deadlines.

    Subscribes when it is created, unsubscribes when it is destroyed. Used on the executor's thread only.

    Args:
        submit: takes each set.
        forget: called with the reason when sets that are under way, and memory, belong to the past.
        learn: takes a binding that was completed by a message: the joints in their order.
        statistics: has the reasons of rejected samples.
        warnings: of rejected messages.

    Attributes:
        synchronizer: gathers the messages into sets; has their counts and the epoch.
        bindings: by modality, of the checkpoint.
        settings: in force.
        topics: by modality, fully resolved.
        arrived_ns: by modality, when its last message arrived, in time of the node's clock.
        arrived_s: by modality, the same in steady time.
        stamps_ns: by modality, the stamp of that message; 0 for none.
        cameras: the calibrations of the image modalities.
        qos: by modality that is subscribed to, the quality of service of its subscription.
        losses: by modality that is subscribed to, the messages lost on the way.
        sources: by modality that is subscribed to, the sources of its messages.
        time: by which messages arrive.
    """

    def __init__(
        self,
        node: Node,
        bindings: tuple[Binding, ...],
        settings: FusionSettings,
        submit: Callable[[SampleSet], None],
        forget: Callable[[str], None],
        learn: Callable[[Binding], None],
        statistics: Statistics,
        warnings: RepeatedWarnings,
    ) -> None:
        self.synchronizer = settings.synchronizer(simulated=simulated_time(node))
        self.bindings = {binding.modality.name: binding for binding in bindings}
        self.settings = settings
        self.topics = {name: node.resolve_topic_name(stream.topic) for name, stream in settings.streams.items()}
        refuse_shared_topics(node, self.topics, {name: binding.type for name, binding in self.bindings.items()})
        self.arrived_ns: dict[str, int] = {}
        self.arrived_s: dict[str, float] = {}
        self.stamps_ns: dict[str, int] = {}
        self.qos: dict[str, QoSProfile] = {}
        self.losses: dict[str, MessageLoss] = {}
        self.sources: dict[str, MessageSources] = {}
        self._node, self._clock = node, node.get_clock()
        self.time = SensedTime(self._clock, simulated=simulated_time(node))
        self._submit, self._forget, self._learn = submit, forget, learn
        self._statistics, self._warnings = statistics, warnings
        self._lags_ns: dict[str, tuple[int, int]] = {}
        self._readers: dict[str, SampleReader] = {}
        self._epoch = 0
        self._armed_ns: int | None = None
        self._subscriptions: dict[str, list[Subscription]] = {}
        image_topics = {name: (stream.topic, self.bindings[name]) for name, stream in settings.streams.items()}
        self.cameras = Cameras(node, image_topics)
        self._paced = PacedGroup(node)
        # On the node's clock, so that a paused or fast simulation pauses and hurries the deadlines as well.
        self._timer = node.create_timer(1.0, self._poll, clock=self._clock, autostart=False)
        self._jump = self._watch_for_jumps(settings)
        try:
            for name, stream in settings.streams.items():
                if stream.enabled:
                    self._subscribe(name, stream.topic)
        except Exception:
            self.destroy()
            raise

    def now_ns(self) -> int:
        """Return the time of the synchroniser; on any thread."""
        return self.time.now_ns()

    def reset(self, reason: str) -> int:
        """Forget all samples and start a new epoch; return its number."""
        self.synchronizer.reset()
        self._forget_past(reason)
        self._arm()
        return self._epoch

    def change(self, settings: FusionSettings) -> None:
        """Apply other values of the settings that may change at any time."""
        for name, stream in settings.streams.items():
            if stream.enabled and name not in self._subscriptions:
                self._subscribe(name, stream.topic)
            elif not stream.enabled:
                self._unsubscribe(name)
        if settings.max_wait != self.settings.max_wait:
            self._jump.unregister()
            self._jump = self._watch_for_jumps(settings)
        self.settings = settings
        now_ns, max_wait_ns = self.time.arrive(), nanoseconds(settings.max_wait)
        future_ns = settings.future_ns(simulated=simulated_time(self._node))
        self._hand_on(self.synchronizer.change(settings.synchronizer_streams(), max_wait_ns, now_ns, future_ns))

    def destroy(self) -> None:
        """Unsubscribe from everything."""
        for name in list(self._subscriptions):
            self._unsubscribe(name)
        self.cameras.destroy()
        self._paced.destroy()
        self._node.destroy_timer(self._timer)
        self._jump.unregister()

    def repeated_in_a_row(self, name: str) -> tuple[int, int]:
        """Return how many pictures of a modality in a row repeat, and how many different ones they are."""
        reader = self._readers.get(name)
        return (reader.repeated_in_a_row, reader.different) if reader is not None else (0, 0)

    def merges(self, name: str) -> bool:
        """Return whether messages of a modality bring a part of it each, so that several may have one stamp."""
        return name in self._readers and self._readers[name].merges

    def faults(self, name: str) -> dict[str, int]:
        """Return by kind how many messages or windows of a modality can be read but mean little; only those above 0."""
        found = {"stretched": self.synchronizer.counts[name].stretched}
        if name in self._readers:
            found |= {"repeated": self._readers[name].repeated, "mixed": self.sources[name].changes}
        return {kind: count for kind, count in found.items() if count}

    def take_lags_s(self, name: str) -> tuple[float, float]:
        """Return how many seconds after their stamps messages arrived since the last call: the least and the most."""
        least_ns, most_ns = self._lags_ns.pop(name, (0, 0))
        return least_ns / 1e9, most_ns / 1e9

    def settle(self) -> None:
        """Move samples that turned out to be unusable in a set from the used to the rejected ones."""
        for name in self._statistics.take_rejected().elements():
            self.synchronizer.reject_used(name, 1)

    def _subscribe(self, name: str, topic: str) -> None:
        binding = self.bindings[name]
        reader = self._readers[name] = SampleReader(binding)
        loss = self.losses[name] = MessageLoss(lambda: self._node.count_publishers(self.topics[name]))
        sources = MessageSources(has_header=binding.has_header, one_size=binding.type == IMAGE)
        self.sources[name] = sources

        def receive(message: bytes, number: int | None, now_ns: int) -> list[SampleSet]:
            loss.see(number)
            now_ns = max(now_ns, self.time.sensed_ns)
            try:
                stamp_ns, sample = reader.read(message, now_ns)
                if not reader.merges:
                    sources.see(number, message)
            except ConversionError as error:
                return self._reject(name, str(error), now_ns)
            if reader.binding is not self.bindings[name]:
                self._learn_joints(reader.binding)
            now_ns = self.time.see(name, stamp_ns, now_ns)
            self.arrived_ns[name], self.stamps_ns[name] = now_ns, stamp_ns
            if stamp_ns:
                lag_ns = now_ns - stamp_ns
                least_ns, most_ns = self._lags_ns.get(name, (lag_ns, lag_ns))
                self._lags_ns[name] = min(least_ns, lag_ns), max(most_ns, lag_ns)
            return self.synchronizer.add(name, stamp_ns, sample, now_ns)

        # As many images as the worker lets wait, so that those that came while the machine slept are not lost.
        depth = TOGETHER if binding.modality.is_image else _QOS_DEPTH
        with subscribing(self._node, self.topics[name], binding.type):
            self._create(name, message_class(binding.type), topic, receive, depth)

    def _learn_joints(self, binding: Binding) -> None:
        name, log = binding.modality.name, self._node.get_logger()
        before, now = (", ".join(one.joints) for one in (self.bindings[name], binding))
        self.bindings[name] = binding
        self._learn(binding)
        cure = f"streams.{name}.joints says which to take, and in what order"
        if before:
            found = now or "states without names"
            log.warning(
                f"{self.topics[name]}: the joints of the first message ({before}) came no more; takes {found}; {cure}"
            )
        else:
            log.info(f"{self.topics[name]}: takes the joints of the first message, in its order: {now}; {cure}")

    def _reject(self, name: str, reason: str, now_ns: int) -> list[SampleSet]:
        self._statistics.note_reason(name, reason)
        self._warnings.warn(name, f"{self.topics[name]}: {reason}")
        return self.synchronizer.reject(name, now_ns)

    def _unsubscribe(self, name: str) -> None:
        for subscription in self._subscriptions.pop(name, []):
            self._paced.remove(subscription)
            self._node.destroy_subscription(subscription)
        self.qos.pop(name, None)

    def _create(
        self,
        name: str,
        message: type[Any],
        topic: str,
        receive: Callable[[bytes, int | None, int], list[SampleSet]],
        depth: int,
    ) -> None:
        def take(first: bytes, info: dict[str, Any]) -> None:
            self._paced.read_others(subscription)
            now_ns = self._arrived(name)
            self._hand_on(receive(first, info["publication_sequence_number"], now_ns))
            self._paced.note(subscription)
            read()

        def read() -> int:
            """Take all messages that wait: the executor costs several times as much as taking one."""
            number = 0
            sets: list[SampleSet] = []
            with subscription.handle:
                while number < depth and (taken := subscription.handle.take_message(message, True)) is not None:
                    if not number:
                        now_ns = self._arrived(name)
                    number += 1
                    sets += receive(taken[0], taken[1]["publication_sequence_number"], now_ns)
            if number:
                self._hand_on(sets)
            return number

        subscription = self._node.create_subscription(
            message,
            topic,
            cast("Callable[[Any], None]", take),  # rclpy passes the second argument to those that take one
            QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT),
            raw=True,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            callback_group=self._paced,
            # The sensor watch names publishers that cannot be heard.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._paced.add(subscription, read)
        self._subscriptions.setdefault(name, []).append(subscription)
        self.qos[name] = subscription.qos_profile

    def _arrived(self, name: str) -> int:
        self.arrived_s[name] = monotonic()
        return self.time.arrive()

    def _poll(self) -> None:
        self._armed_ns = None
        self._paced.read_others(None)
        self._hand_on(self.synchronizer.poll(self.time.arrive()))

    def _hand_on(self, sets: list[SampleSet]) -> None:
        if self.synchronizer.resets != self._epoch:
            self._forget_past("time went back")
            self._warn_of_jump()
        for sample_set in sets:
            if sample_set.epoch == self._epoch:
                self._submit(sample_set)
        self._arm()

    def _watch_for_jumps(self, settings: FusionSettings) -> JumpHandle:
        # As the synchroniser judges it: times on /clock may overtake one another.
        least_ns = max(1, nanoseconds(settings.max_wait))
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-least_ns), on_clock_change=True)
        return self._clock.create_jump_callback(threshold, post_callback=self._jumped)

    def _jumped(self, jump: TimeJump) -> None:
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            self._change_clock(simulated=jump.clock_change == ClockChange.ROS_TIME_ACTIVATED)
            return
        first = not self.synchronizer.resets and not self.synchronizer.sets
        self.reset("time went back")
        # A player of bags sets its clock to the start of the bag a second time as it begins to play.
        if not first:
            self._warn_of_jump()

    def _change_clock(self, *, simulated: bool) -> None:
        # What was received is of another time.
        self.arrived_ns.clear()
        self.stamps_ns.clear()
        self._lags_ns.clear()
        self.time.restart(simulated=simulated)
        self.reset("the node's clock changed")
        settings, now_ns = self.settings, self.time.arrive()
        future_ns = settings.future_ns(simulated=simulated)
        self.synchronizer.change((), nanoseconds(settings.max_wait), now_ns, future_ns)
        self.synchronizer.simulated = simulated
        clock = "simulated time, from /clock" if simulated else "the computer's time"
        self._node.get_logger().warning(
            f"use_sim_time: the node's clock is now {clock}; all samples forgotten, epoch {self._epoch} begins"
        )

    def _warn_of_jump(self) -> None:
        if self.time.simulated and (clocks := several_clocks(self._node)):
            self._warnings.warn("clock", clocks)
            return
        self._node.get_logger().warning(
            f"time went back: all samples forgotten, epoch {self._epoch} begins", throttle_duration_sec=1.0
        )

    def _forget_past(self, reason: str) -> None:
        self._epoch = self.synchronizer.resets
        for reader in self._readers.values():
            reader.reset()
        self._forget(reason)

    def _arm(self) -> None:
        due_ns = self.synchronizer.next_deadline()
        if due_ns is None:
            self._timer.cancel()
        elif due_ns != self._armed_ns:
            self._timer.timer_period_ns = max(1, due_ns - self._clock.now().nanoseconds)
            self._timer.reset()
        self._armed_ns = due_ns


def simulated_time(node: Node) -> bool:
    """Return whether the node's clock is `/clock`."""
    clock = node.get_clock()
    return isinstance(clock, ROSClock) and clock.ros_time_is_active
