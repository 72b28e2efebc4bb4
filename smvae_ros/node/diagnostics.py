"""What the node counts, and how it says so: smvae_ros/FusionStatus and diagnostic_msgs/DiagnosticArray."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE

STAGES = ("latency", "wait", "conversion", "inference", "publication")
_REMEMBERED = 1000


class Statistics:
    """Counts since activation. Written by the executor's thread and the worker's, read by the executor's.

    Attributes:
        skipped: sets that a newer one overtook before the worker took them.
        unheard: sets that were not run, as nobody listened.
        published: latents.
        failures: sets at which the engine or a publication failed.
        decoded: by modality, predictions computed.
        rejected: by modality, samples that could not be converted.
        reasons: by modality, why the last of these could not.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self.unheard = 0
        self.published = 0
        self.failures = 0
        self.decoded: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self._seconds: dict[str, deque[float]] = {stage: deque(maxlen=_REMEMBERED) for stage in STAGES}
        self._lock = threading.Lock()

    def add_times(self, seconds: Mapping[str, float]) -> None:
        """Remember how long each of `STAGES` took for one set; the last 1000 sets count."""
        with self._lock:
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def percentile(self, stage: str, percent: float) -> float:
        """A percentile of a stage in seconds; 0 before the first set."""
        with self._lock:
            seconds = list(self._seconds[stage])
        return float(np.percentile(seconds, percent)) if seconds else 0.0


@dataclass(frozen=True)
class ModalityReport:
    """One modality over the last period.

    Attributes:
        name: the modality.
        topic: fully resolved.
        enabled: whether it may be in sets.
        alive: whether a sample arrived within its timeout.
        rate: messages per second.
        age: seconds since the last message arrived; -1 before the first.
        share: of the period's sets, those that it was in.
        received: messages since activation.
        used: samples that were in a set.
        dropped: samples that were not, by reason.
        lost: messages published and never taken, counted while one node publishes them.
        zero_stamp: samples without a stamp, which got the time of arrival.
        bad: messages of the period that could not be converted.
        reason: why the last of these could not.
        problem: what is wrong with the period's messages though they can be read; empty if nothing is.
        decoded: predictions of it since activation.
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
    bad: int = 0
    reason: str = ""
    problem: str = ""
    decoded: int = 0

    def verdict(self) -> tuple[bytes, str]:
        """Level and summary: STALE is silent, ERROR sends nothing usable, WARN sends some that is not."""
        if not self.enabled:
            return OK, "disabled"
        if self.received == 0:
            return STALE, f"no message on {self.topic} yet"
        if not self.alive and not self.problem:
            return STALE, f"no message on {self.topic} for {self.age:.1f} s"
        if self.bad and self.share == 0.0:
            return ERROR, f"no usable message on {self.topic}: {self.reason}"
        if self.bad:
            return WARN, f"{self.bad} messages on {self.topic} could not be used: {self.reason}"
        if self.problem:
            return (WARN if self.share else ERROR), f"{self.topic}: {self.problem}"
        return OK, f"{self.rate:.1f} Hz"

    def values(self) -> dict[str, object]:
        """Key and value for a diagnostic viewer."""
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
            "predictions": self.decoded,
        }


@dataclass(frozen=True)
class NodeReport:
    """The node over the last period.

    Attributes:
        state: of the lifecycle.
        problem: why it could not be configured or activated, or has no time; empty if nothing is wrong.
        device: where the model runs; empty before it is loaded.
        receiving: whether any message came in the period.
        sets: emitted since activation.
        recent_sets: emitted in the period.
        recent_skips: skipped in the period.
        recent_failures: failed in the period.
        statistics: since activation.
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

    def verdict(self) -> tuple[bytes, str]:
        """Level and summary."""
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
        if self.recent_skips:
            return WARN, f"{self.recent_skips} of {self.recent_sets} sets skipped: the model is slower than the sensors"
        return OK, f"{self.recent_sets} sets a second"

    def values(self) -> dict[str, object]:
        """Key and value for a diagnostic viewer."""
        counts = self.statistics
        times = {
            f"{stage} p{percent} (ms)": f"{1e3 * counts.percentile(stage, percent):.1f}"
            for stage in STAGES
            for percent in (50, 99)
        }
        return {
            "state": self.state,
            "device": self.device,
            "sets": self.sets,
            "skipped": counts.skipped,
            "latents published": counts.published,
            "failures": counts.failures,
            **times,
        }


def diagnostic_statuses(
    name: str, hardware: str, node: NodeReport, modalities: Iterable[ModalityReport]
) -> list[DiagnosticStatus]:
    """One status of the node, `<name>: fusion`, and one of each modality, `<name>: <modality>`."""
    reports: list[tuple[str, NodeReport | ModalityReport]] = [("fusion", node), *((m.name, m) for m in modalities)]
    statuses = []
    for part, report in reports:
        level, message = report.verdict()
        values = [KeyValue(key=key, value=str(value)) for key, value in report.values().items()]
        statuses.append(
            DiagnosticStatus(level=level, name=f"{name}: {part}", message=message, hardware_id=hardware, values=values)
        )
    return statuses
