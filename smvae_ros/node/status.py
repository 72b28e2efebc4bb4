"""Status: once a second, how the node and each modality are doing, on `~/status` and `/diagnostics`."""

from __future__ import annotations

from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.time import Time

from smvae_ros.distrust import Distrust
from smvae_ros.msg import FusionStatus, ModalityStatus
from smvae_ros.node.diagnostics import ModalityReport, NodeReport, diagnostic_statuses
from smvae_ros.node.sensor_watch import SensorWatch
from smvae_ros.node.set_memory import SetMemory
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.subscriptions import Subscriptions

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""A clock for timers that must go on when simulated time stands still."""


class StatusPublisher:
    """The publishers of status and diagnostics: counts since activation, and rates since the last publication."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Event handlers of publishers would cost time with every message that the node receives.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        self._status = node.create_publisher(FusionStatus, "~/status", 1, event_callbacks=quiet)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 1, event_callbacks=quiet)
        self._watch = SensorWatch(node)
        self.begin()

    def begin(self) -> None:
        """Start again with counts of 0."""
        self._last = monotonic()
        self._previous: dict[tuple[str, str], int] = {}
        self._watch.begin()

    def publish(
        self,
        state: str,
        problem: str,
        device: str,
        statistics: Statistics,
        subscriptions: Subscriptions | None,
        memory: SetMemory | None,
        distrust: Distrust | None,
    ) -> None:
        """Publish status and diagnostics.

        Args:
            state: of the lifecycle.
            problem: why the node could not be configured or activated; empty if nothing is wrong.
            device: where the model runs; empty before it is loaded.
            subscriptions: None while the node is not active.
            memory: likewise.
            distrust: likewise.
        """
        period = max(monotonic() - self._last, 1e-3)
        self._last = monotonic()
        if subscriptions is not None:
            self._watch.look(subscriptions)
        sets = sum(subscriptions.synchronizer.sets.values()) if subscriptions is not None else 0
        recent_sets = self._since_last("", "sets", sets)
        modalities = (
            []
            if subscriptions is None
            else self._modalities(subscriptions, statistics, period, recent_sets, distrust or Distrust({}))
        )
        receiving = any(modality.rate for modality in modalities)
        report = NodeReport(
            state=state,
            problem=problem
            or (self._watch.clock_problem(subscriptions, receiving) if subscriptions is not None else ""),
            device=device,
            receiving=receiving,
            sets=sets,
            recent_sets=recent_sets,
            recent_skips=self._since_last("", "skipped", statistics.skipped),
            recent_failures=self._since_last("", "failures", statistics.failures),
            period=period,
            statistics=statistics,
            unpublished={
                topic: statistics.reasons[topic]
                for topic, count in list(statistics.unpublished.items())
                if self._since_last(topic, "unpublished", count)
            },
        )
        if subscriptions is not None:
            self._watch.warn(subscriptions, modalities)
        stamp = self._node.get_clock().now().to_msg()
        name = self._node.get_fully_qualified_name().lstrip("/")
        diagnostics = DiagnosticArray(status=diagnostic_statuses(name, device, report, modalities))
        diagnostics.header.stamp = stamp
        self._diagnostics.publish(diagnostics)
        age = memory.age if memory is not None else None
        latency_p50, latency_p99 = statistics.percentiles()["latency"]
        status = FusionStatus(
            state=state,
            epoch=subscriptions.synchronizer.resets if subscriptions is not None else 0,
            device=device,
            sets=sets,
            skipped=statistics.skipped,
            published=statistics.published,
            latency_p50=latency_p50,
            latency_p99=latency_p99,
            modalities=[_message(modality) for modality in modalities],
            memory_age=-1.0 if age is None else age,
            forgotten=memory.forgotten if memory is not None else 0,
        )
        status.header.stamp = stamp
        self._status.publish(status)

    def _modalities(
        self,
        subscriptions: Subscriptions,
        statistics: Statistics,
        period: float,
        recent_sets: int,
        distrust: Distrust,
    ) -> list[ModalityReport]:
        now_ns = subscriptions.now_ns()
        reports = []
        for name, counts in subscriptions.synchronizer.counts.items():
            bad = self._since_last(name, "rejected", counts.dropped["rejected"])
            usable = max(0, self._since_last(name, "sets", counts.sets))
            received = self._since_last(name, "received", counts.received)
            since_ns = distrust.since_ns.get(name)
            reports.append(
                ModalityReport(
                    name=name,
                    topic=subscriptions.topics[name],
                    enabled=subscriptions.settings.streams[name].enabled,
                    alive=subscriptions.synchronizer.alive(name, now_ns),
                    rate=received / period,
                    age=monotonic() - subscriptions.arrived_s[name] if name in subscriptions.arrived_s else -1.0,
                    share=min(1.0, usable / recent_sets) if recent_sets else 0.0,
                    received=counts.received,
                    used=counts.used,
                    dropped={reason: count for reason, count in counts.dropped.items() if count},
                    lost=subscriptions.losses[name].lost if name in subscriptions.losses else 0,
                    zero_stamp=counts.zero_stamp,
                    faults=subscriptions.faults(name),
                    bad=bad,
                    reason=statistics.reasons.get(name, ""),
                    problem=self._watch.problem(subscriptions, name, received, recent_sets > 0 and not (usable or bad)),
                    decoded=statistics.decoded[name],
                    unheard="" if received else self._watch.unheard(subscriptions, name),
                    trust=distrust.trust.get(name, -1.0),
                    distrusted_ns=since_ns,
                    distrusted_for=max(0.0, (now_ns - since_ns) / 1e9) if since_ns is not None else 0.0,
                )
            )
        return reports

    def _since_last(self, name: str, count: str, value: int) -> int:
        previous = self._previous.get((name, count), 0)
        self._previous[name, count] = value
        return value - previous


def _message(report: ModalityReport) -> ModalityStatus:
    return ModalityStatus(
        name=report.name,
        alive=report.alive,
        rate=report.rate,
        age=report.age,
        share=report.share,
        received=report.received,
        used=report.used,
        lost=report.lost,
        zero_stamp=report.zero_stamp,
        drop_reasons=list(report.dropped),
        drop_counts=list(report.dropped.values()),
        trust=report.trust,
        distrusted=report.distrusted_ns is not None,
        distrusted_since=Time(nanoseconds=report.distrusted_ns or 0).to_msg(),
        fault_names=list(report.faults),
        fault_counts=list(report.faults.values()),
    )
