"""How the node and each modality are doing, in words: levels and sentences of /diagnostics, and the closing summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from smvae_ros.node.statistics import Statistics
from smvae_ros.synchronizer.stream import StreamCounts

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE


@dataclass(frozen=True)
class ModalityReport:
    """One modality over the last period, which is about a second.

    Attributes:
        name: the modality.
        topic: fully resolved.
        enabled: whether the modality may be in sets.
        alive: whether a sample that sets can use arrived within the modality's timeout.
        rate: messages per second.
        age: seconds since the last message arrived; -1 before the first.
        share: the part of the period's sets that the modality was in, 0 to 1.
        received: messages since activation.
        used: samples that were in a set.
        dropped: samples that were in no set, by reason.
        lost: messages that were published and never taken; counted while one node publishes them.
        zero_stamp: samples without a stamp, which got the time of arrival.
        faults: messages and windows that can be read but mean little, by kind, since activation.
        bad: messages of the period that could not be converted.
        reason: why the last of the bad messages could not be.
        problem: what is wrong with the period's messages although they can be read; empty if nothing is.
        decoded: predictions of the modality since activation.
        unheard: why publishers on the topic cannot be heard; empty if there are none.
        trust: how far the modality can be trusted, 0 to 1; -1 where the checkpoint cannot tell, or before the first
            set that has it.
        distrusted_ns: stamp of the set since which the modality is distrusted; None while it is trusted.
        distrusted_for: seconds since then.
    """

    name: str
    topic: str
    enabled: bool = True
    alive: bool = False
    rate: float = 0.0
    age: float = -1.0
    share: float = 0.0
    received: int = 0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    zero_stamp: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    reason: str = ""
    problem: str = ""
    decoded: int = 0
    unheard: str = ""
    trust: float = -1.0
    distrusted_ns: int | None = None
    distrusted_for: float = 0.0

    def verdict(self) -> tuple[bytes, str]:
        """Return level and summary: STALE is silent, ERROR sends nothing usable, WARN sends some that is not usable."""
        if not self.enabled:
            return OK, "disabled"
        why = f": {self.unheard}" if self.unheard else ""
        if self.received == 0:
            return STALE, f"no message on {self.topic} yet{why}"
        if not self.alive and not self.rate and not self.problem:
            return STALE, f"no message on {self.topic} for {self.age:.1f} s{why}"
        if self.bad and self.share == 0.0:
            return ERROR, f"no usable message on {self.topic}: {self.reason}"
        if self.bad:
            return WARN, f"{self.bad} messages on {self.topic} could not be used: {self.reason}"
        if self.problem:
            return (WARN if self.share else ERROR), f"{self.topic}: {self.problem}"
        if self.distrusted_ns is not None:
            told = f"distrusted for {self.distrusted_for:.1f} s: it contradicts what else is known"
            return WARN, f"{self.rate:.1f} Hz, {told} (trust {self.trust:.2f})"
        if self.share == 0.0:
            return WARN, f"{self.rate:.1f} Hz, but in no set of the last second"
        return OK, f"{self.rate:.1f} Hz"

    def values(self) -> dict[str, object]:
        """Return keys and values for a diagnostic viewer."""
        return {
            "topic": self.topic,
            "rate (Hz)": f"{self.rate:.1f}",
            "age (s)": f"{self.age:.3f}",
            "share of sets": f"{self.share:.2f}",
            "received": self.received,
            "used": self.used,
            "lost": self.lost,
            "without a stamp": self.zero_stamp,
            **{f"dropped: {reason}": count for reason, count in sorted(self.dropped.items())},
            **{f"fault: {kind}": count for kind, count in sorted(self.faults.items())},
            "predictions": self.decoded,
            **({"trust": f"{self.trust:.2f}"} if self.trust >= 0.0 else {}),
        }


@dataclass(frozen=True)
class NodeReport:
    """The node over the last period, which is about a second.

    Attributes:
        state: of the lifecycle.
        problem: why the node could not be configured or activated, or has no time; empty if nothing is wrong.
        device: where the model runs; empty before it is loaded.
        receiving: whether any message came in the period.
        sets: sets emitted since activation.
        recent_sets: sets emitted in the period.
        recent_skips: sets skipped in the period.
        recent_failures: sets that failed in the period.
        statistics: since activation.
        period: seconds since the last report.
        unpublished: by topic on which a message could not be published in the period, the reason.
    """

    state: str
    problem: str
    device: str
    receiving: bool
    sets: int
    recent_sets: int
    recent_skips: int
    recent_failures: int
    statistics: Statistics
    period: float = 1.0
    unpublished: Mapping[str, str] = field(default_factory=dict)

    def verdict(self) -> tuple[bytes, str]:
        """Return level and summary."""
        if self.problem:
            return ERROR, self.problem
        if self.state != "active":
            return WARN, self.state
        if self.recent_failures:
            return ERROR, f"{self.recent_failures} sets failed"
        if self.recent_sets == 0 and self.receiving:
            return ERROR, "no sets: no message that arrives can be used"
        if self.recent_sets == 0:
            return STALE, "no sets: no sensor is alive"
        if self.unpublished:
            return WARN, "; ".join(f"{topic} is not published: {reason}" for topic, reason in self.unpublished.items())
        if self.recent_skips:
            return WARN, f"{self.recent_skips} of {self.recent_sets} sets skipped: {self._why_skipped()}"
        return OK, f"{self.recent_sets} sets a second"

    def _why_skipped(self) -> str:
        spacing_ms = 1e3 * self.period / max(1, self.recent_sets)
        median_ms = {stage: 1e3 * median for stage, (median, _) in self.statistics.percentiles().items()}
        work_ms = median_ms["processor"]
        took_ms = median_ms["conversion"] + median_ms["inference"] + median_ms["publication"]
        times = f"a set takes {took_ms:.0f} ms and comes every {spacing_ms:.0f} ms"
        if took_ms < spacing_ms:
            return f"{times}; sets come in bursts, or the computer was busy for a moment"
        if self.device.startswith("cpu") and work_ms < 0.7 * took_ms and work_ms < spacing_ms:
            return f"{times}, of which the worker computes {work_ms:.0f} ms: other work takes the processor"
        return f"{times}: the model is slower than the sensors"

    def values(self) -> dict[str, object]:
        """Return keys and values for a diagnostic viewer."""
        counts = self.statistics
        times = {
            f"{stage} p{percent} (ms)": f"{1e3 * seconds:.1f}"
            for stage, found in counts.percentiles().items()
            for percent, seconds in zip((50, 99), found)
        }
        return {
            "state": self.state,
            "device": self.device,
            "sets": self.sets,
            "skipped": counts.skipped,
            "latents published": counts.published,
            "failures": counts.failures,
            **{f"not published: {topic}": count for topic, count in sorted(counts.unpublished.items())},
            **times,
        }


def diagnostic_statuses(
    name: str, hardware: str, node: NodeReport, modalities: Iterable[ModalityReport]
) -> list[DiagnosticStatus]:
    """Return one status of the node, `<name>: fusion`, and one of each modality, `<name>: <modality>`."""
    reports: list[tuple[str, NodeReport | ModalityReport]] = [("fusion", node)]
    reports += [(modality.name, modality) for modality in modalities]
    statuses = []
    for part, report in reports:
        level, message = report.verdict()
        values = [KeyValue(key=key, value=str(value)) for key, value in report.values().items()]
        statuses.append(
            DiagnosticStatus(level=level, name=f"{name}: {part}", message=message, hardware_id=hardware, values=values)
        )
    return statuses


def closing_summary(statistics: Statistics, sets: int, counts: Mapping[str, StreamCounts]) -> str:
    """Return one line on a whole activation: sets, the share of them with each modality, latency, what was dropped.

    Args:
        sets: that the synchroniser emitted.
        counts: by modality, what became of its samples.
    """
    words = f"closing summary: {statistics.published} latents of {sets} sets"
    if sets:
        words += ": " + ", ".join(f"{name} in {one.sets / sets:.0%}" for name, one in counts.items())
    p50, p99 = (1e3 * seconds for seconds in statistics.percentiles()["latency"])
    if p99:
        words += f"; latency p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    if statistics.unheard:
        words += f"; {statistics.unheard} sets not run, as nobody listened"
    if statistics.skipped:
        words += f"; {statistics.skipped} sets skipped"
    dropped = [
        f"{name} {count} {reason}"
        for name, one in counts.items()
        for reason, count in sorted(one.dropped.items())
        if count
    ]
    return words + (f"; dropped: {', '.join(dropped)}" if dropped else "")
