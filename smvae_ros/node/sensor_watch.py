"""What is wrong with the sensors of an active node though their messages can be read: for the log and diagnostics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic

from rclpy.node import Node

from smvae_ros.conversions.bindings import Binding
from smvae_ros.node.diagnostics import ModalityReport
from smvae_ros.node.stamp_check import span, stamp_problem
from smvae_ros.node.subscriptions import Intake
from smvae_ros.settings import nanoseconds

NO_CLOCK = "use_sim_time is true, but no time has come on /clock"

_SILENT_S = 5.0
# A sensor that begins or ends in the middle of a period may be in no set of it.
_PERIODS_IN_A_ROW = 2


class SensorWatch:
    """Asked once a second. What it finds twice in a row counts, and is logged once from one activation to the next."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.begin()

    @property
    def timeless(self) -> bool:
        """Whether the node waits for simulated time to begin."""
        clock = self._node.get_clock()
        return clock.ros_time_is_active and clock.now().nanoseconds == 0

    def begin(self) -> None:
        """Start over."""
        self._began = monotonic()
        self._warned: set[tuple[str, str]] = set()
        self._unused: Counter[str] = Counter()
        self._misdated: Counter[str] = Counter()
        self._future: Counter[str] = Counter()
        self._named = False

    def problem(self, intake: Intake, name: str, received: int, unused: bool) -> str:
        """What is wrong with the messages that came since it was last asked; empty if nothing is.

        Args:
            name: the modality.
            received: messages of it since then.
            unused: whether there were sets, none of which it was in, though its messages could be read.
        """
        stream = intake.settings.streams[name]
        stamp_ns = intake.stamps_ns.get(name, 0)
        if self.timeless:
            return NO_CLOCK if received else ""
        problem = ""
        if received and stamp_ns:
            problem = stamp_problem(
                stamp_ns + nanoseconds(stream.offset),
                intake.arrived_ns[name],
                future=self._future_since_last(intake, name),
                simulated=self._node.get_clock().ros_time_is_active,
            )
        self._misdated[name] = self._misdated[name] + 1 if problem else 0
        unused = unused and received > 0 and stream.enabled
        self._unused[name] = self._unused[name] + 1 if unused else 0
        if self._misdated[name] < _PERIODS_IN_A_ROW:
            problem = ""
        if self._unused[name] < _PERIODS_IN_A_ROW:
            return problem
        return f"in no set: {problem or _why_unused(intake, name)}"

    def warn(self, intake: Intake, modalities: list[ModalityReport]) -> None:
        """Log what is wrong with the sensors, each thing once."""
        silent = monotonic() - self._began >= _SILENT_S
        if silent and not self._named:
            self._warn_of_namesake()
        if self.timeless:
            self._warn("clock", {"/clock": NO_CLOCK} if silent else {})
            return
        unheard = [
            one
            for one in modalities
            if silent and one.enabled and one.received == 0 and ("silence", one.topic) not in self._warned
        ]
        self._warn("silence", {one.topic: self._silence(intake.bindings[one.name], one.topic) for one in unheard})
        # Where the stamps of the reference are wrong, the others are in no set because of it.
        guilty = self._misdated[intake.settings.reference] >= _PERIODS_IN_A_ROW
        self._warn(
            "problem", {one.topic: one.problem for one in modalities if not guilty or self._misdated[one.name] > 0}
        )
        unstamped = "messages have no stamp: the time of their arrival stands in for it"
        self._warn("stamp", {one.topic: unstamped for one in modalities if one.zero_stamp})

    def _warn_of_namesake(self) -> None:
        self._named = True
        own = (self._node.get_name(), self._node.get_namespace())
        if self._node.get_node_names_and_namespaces().count(own) > 1:
            self._node.get_logger().warning(
                f"{self._node.get_fully_qualified_name()}: another node has this name, so what both publish is mixed; "
                "start one with -r __node:=NAME or in a namespace"
            )

    def _future_since_last(self, intake: Intake, name: str) -> bool:
        dropped = intake.synchronizer.counts[name].dropped["future"]
        previous, self._future[name] = self._future[name], dropped
        return dropped > previous

    def _silence(self, binding: Binding, topic: str) -> str:
        publishers = self._node.get_publishers_info_by_topic(topic)
        others = {
            f"{one.node_namespace.rstrip('/')}/{one.node_name} ({one.topic_type})"
            for one in publishers
            if one.topic_type != binding.type
        }
        found = "a publisher is there" if publishers else "nobody publishes there"
        if others:
            message = f"streams.{binding.modality.name}.message"
            found = f"expected {binding.type} ({message}), found {', '.join(sorted(others))}"
        return f"no message in the {_SILENT_S:.0f} s since activation ({found}); sets go out without what it brings"

    def _warn(self, kind: str, problems: Mapping[str, str]) -> None:
        """Say each thing once, and what is the same of several topics in one line."""
        topics: dict[str, list[str]] = {}
        for topic, problem in problems.items():
            if problem and (kind, topic) not in self._warned:
                self._warned.add((kind, topic))
                topics.setdefault(problem, []).append(topic)
        for problem, those in topics.items():
            self._node.get_logger().warning(f"{', '.join(those)}: {problem}")


def _why_unused(intake: Intake, name: str) -> str:
    settings, reference = intake.settings, intake.settings.reference
    stream = settings.streams[name]
    if stream.window > 1 and intake.synchronizer.held(name) < stream.least:
        return f"it takes {stream.least} samples (least) without a silence of {stream.timeout:g} s (timeout)"
    if name == reference or not (intake.stamps_ns.get(name) and intake.stamps_ns.get(reference)):
        return f"no stamp lies within {stream.tolerance:g} s (tolerance) of a set's"
    ahead_s = stream.offset - settings.streams[reference].offset
    for one, sign in ((name, 1), (reference, -1)):
        ahead_s += sign * (intake.stamps_ns[one] - intake.arrived_ns[one]) / 1e9
    return (
        f"stamps are {span(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} those of {reference}, "
        f"with a tolerance of {stream.tolerance:g} s"
    )
