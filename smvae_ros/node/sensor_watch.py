"""Sensor watch: finds silent sensors and wrong stamps, for the log and diagnostics."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from time import monotonic

from rclpy.node import Node

from smvae_ros.node.diagnostics import ModalityReport
from smvae_ros.node.publisher_check import publisher_names, several_clocks, unheard_publishers
from smvae_ros.node.stream_faults import (
    mixed_sources,
    repeated_numbers,
    repeated_pictures,
    repeated_stamps,
    scattered_stamps,
    span,
    stretched_windows,
)
from smvae_ros.node.subscriptions import Subscriptions, simulated_time
from smvae_ros.settings import nanoseconds

NO_CLOCK = "use_sim_time is true, but no time has come on /clock: sets go out by the sensors' time"
STILL_CLOCK = "simulated time stands still, although messages come: sets go out by the sensors' time"
NO_TIME = "simulated time stands still, although messages come, whose stamps do not go on from it"

_SILENT_S = 5.0
# With its unit, which changes as a time grows.
_NUMBER = re.compile(r"\d[\d.]*( \w+)?")
_IN_NO_SET = "in no set: "
_NOBODY = "nobody publishes there"
# A sensor that begins or ends in the middle of a period may be in no set of it.
_PERIODS_IN_A_ROW = 2
_PERIOD_S = 1.0
_PERIODS_OF_SOURCES = 5
_MOST_BEHIND_S = 1.0
_DAY_S = 24 * 3600.0
# No machine has run so long, and no stamp since 1970 is so small.
_LONGEST_RUN_S = 3652.5 * _DAY_S


class SensorWatch:
    """A watch over the sensors of an active node, asked once a second.

    A problem counts once it was found twice in a row. Each sentence is logged once per topic and activation.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.begin()

    def begin(self) -> None:
        """Start again, as after an activation."""
        self._began = monotonic()
        self._resets = 0
        self._clocks = ""
        self._warned: set[tuple[str, str, str]] = set()
        # Topics whose silence was reported.
        self._silent: set[str] = set()
        self._unused: Counter[str] = Counter()
        self._misdated: Counter[str] = Counter()
        self._scattered: Counter[str] = Counter()
        self._faulty: Counter[str] = Counter()
        self._repeating: Counter[str] = Counter()
        # Messages and changes of their source in the last periods.
        self._recent: defaultdict[str, deque[tuple[int, int]]] = defaultdict(lambda: deque(maxlen=_PERIODS_OF_SOURCES))
        self._previous: Counter[tuple[str, str]] = Counter()
        # Topic, node and reason of each publisher that was reported.
        self._unheard: set[tuple[str, str, str]] = set()
        self._named = False

    def look(self, subscriptions: Subscriptions) -> None:
        """Look whether time went back again and again in the period; call it before the other questions."""
        resets, self._resets = self._resets, subscriptions.synchronizer.resets
        goes_back = subscriptions.time.simulated and self._resets - resets > 1
        self._clocks = several_clocks(self._node) if goes_back else ""

    def clock_problem(self, subscriptions: Subscriptions, receiving: bool) -> str:
        """Return what is wrong with simulated time; empty if nothing is.

        Args:
            receiving: whether messages came in the period. A simulation that is paused sends none.
        """
        if simulated_time(self._node) and self._node.get_clock().now().nanoseconds == 0:
            return NO_CLOCK
        if self._clocks:
            return self._clocks
        if not receiving or subscriptions.time.stands_s() < _PERIODS_IN_A_ROW * _PERIOD_S:
            return ""
        return STILL_CLOCK if subscriptions.time.sensed_ns else NO_TIME

    def problem(self, subscriptions: Subscriptions, name: str, received: int, unused: bool) -> str:
        """Return what is wrong with the messages since the last call; empty if nothing is.

        Args:
            name: the modality.
            received: messages of the modality since the last call.
            unused: whether sets went out without the modality, although its messages could be read.
        """
        stream = subscriptions.settings.streams[name]
        stamp_ns = subscriptions.stamps_ns.get(name, 0)
        clock = self.clock_problem(subscriptions, received > 0)
        if clock or subscriptions.time.stands_s() >= _PERIOD_S:
            self._faulty[name] = 0
            return clock if received else ""
        problem = ""
        dropped = subscriptions.synchronizer.counts[name].dropped
        late, future = (self._since_last(name, reason, dropped[reason]) for reason in ("late", "future"))
        least_s, most_s = subscriptions.take_lags_s(name)
        lags_s = least_s - stream.offset, most_s - stream.offset
        scattered = scattered_stamps(received, late, future, lags_s, subscriptions.settings.max_wait)
        self._scattered[name] = self._scattered[name] + 1 if scattered else 0
        if received and stamp_ns:
            problem = stamp_problem(
                stamp_ns + nanoseconds(stream.offset),
                subscriptions.arrived_ns[name],
                future=future > 0,
                simulated=simulated_time(self._node),
            )
        self._misdated[name] = self._misdated[name] + 1 if problem else 0
        unused = unused and received > 0 and stream.enabled
        self._unused[name] = self._unused[name] + 1 if unused else 0
        fault = self._fault(subscriptions, name, received)
        self._faulty[name] = self._faulty[name] + 1 if fault else 0
        # A simulation that pauses, or goes on, repeats its stamps for a part of the period.
        if simulated_time(self._node) and self._faulty[name] < _PERIODS_IN_A_ROW:
            fault = ""
        # A stamp that repeats grows old too.
        problem = problem if self._misdated[name] >= _PERIODS_IN_A_ROW else ""
        if self._scattered[name]:
            # The last stamp says little of the others.
            problem = scattered if self._scattered[name] >= _PERIODS_IN_A_ROW else ""
        problem = fault or problem
        if self._unused[name] < _PERIODS_IN_A_ROW or (self._scattered[name] and not problem):
            return problem
        return f"{_IN_NO_SET}{problem or _why_unused(subscriptions, name)}"

    def warn(self, subscriptions: Subscriptions, modalities: list[ModalityReport]) -> None:
        """Log what is wrong with the sensors, each problem once."""
        silent = monotonic() - self._began >= _SILENT_S
        if silent and not self._named:
            self._warn_of_namesake()
        if clock := self.clock_problem(subscriptions, any(one.rate for one in modalities)):
            self._warn("clock", {"/clock": clock} if silent else {})
            return
        if silent:
            self._warn_of_publishers(subscriptions, modalities)
        # Where the stamps of the reference are wrong, the others are in no set because of it.
        reference_is_wrong = self._misdated[subscriptions.settings.reference] >= _PERIODS_IN_A_ROW
        self._warn(
            "problem",
            {one.topic: one.problem for one in modalities if not reference_is_wrong or self._misdated[one.name] > 0},
        )
        unstamped = "messages have no stamp: the time of their arrival stands in for it"
        self._warn("stamp", {one.topic: unstamped for one in modalities if one.zero_stamp})

    def unheard(self, subscriptions: Subscriptions, name: str) -> str:
        """Return why publishers on a modality's topic cannot be heard; empty if there are none."""
        topic, binding = subscriptions.topics[name], subscriptions.bindings[name]
        return "; ".join(unheard_publishers(self._node, topic, binding, subscriptions.qos.get(name)).values())

    def _warn_of_publishers(self, subscriptions: Subscriptions, modalities: list[ModalityReport]) -> None:
        """Log topics that stay silent, and publishers that cannot be heard, again whenever there are others."""
        goes_on = "sets go out without it" if any(subscriptions.synchronizer.sets.values()) else "no sets go out"
        silence: dict[str, str] = {}
        for one in (one for one in modalities if one.enabled):
            binding = subscriptions.bindings[one.name]
            unheard = unheard_publishers(self._node, one.topic, binding, subscriptions.qos.get(one.name))
            new = {reason for name, reason in unheard.items() if (one.topic, name, reason) not in self._unheard}
            self._unheard |= {(one.topic, name, reason) for name, reason in unheard.items()}
            if one.received == 0 and one.topic not in self._silent:
                self._silent.add(one.topic)
                publishers = self._node.count_publishers(one.topic)
                found = "; ".join(sorted(unheard.values())) or ("a publisher is there" if publishers else _NOBODY)
                silence[one.topic] = f"no message in the {_SILENT_S:.0f} s since activation ({found}); {goes_on}"
            elif new:
                self._node.get_logger().warning(f"{one.topic}: {'; '.join(sorted(new))}")
        self._warn("silence", silence)

    def _warn_of_namesake(self) -> None:
        self._named = True
        own = (self._node.get_name(), self._node.get_namespace())
        if self._node.get_node_names_and_namespaces().count(own) > 1:
            self._node.get_logger().warning(
                f"{self._node.get_fully_qualified_name()}: another node has this name, so what both publish is mixed; "
                "start one with -r __node:=NAME or in a namespace"
            )

    def _fault(self, subscriptions: Subscriptions, name: str, received: int) -> str:
        counts = subscriptions.synchronizer.counts[name]
        duplicates = self._since_last(name, "duplicate", counts.dropped["duplicate"])
        stretched = self._since_last(name, "stretched", counts.stretched)
        faults = subscriptions.faults(name)
        repeated, changes = (self._since_last(name, fault, faults.get(fault, 0)) for fault in ("repeated", "mixed"))
        if name not in subscriptions.sources:
            return ""
        stream = subscriptions.settings.streams[name].stream(name)
        if subscriptions.merges(name):
            duplicates = 0
        return (
            repeated_stamps(received, duplicates, simulated=simulated_time(self._node))
            or stretched_windows(stream, stretched, counts.span_ns)
            or self._mixed(subscriptions, name, received, changes)
            or self._repeated(subscriptions, name, received, repeated)
        )

    def _repeated(self, subscriptions: Subscriptions, name: str, received: int, repeated: int) -> str:
        in_a_row, different = subscriptions.repeated_in_a_row(name)
        if not subscriptions.bindings[name].modality.is_image:
            return repeated_numbers(received, in_a_row)
        words = repeated_pictures(received, repeated, in_a_row, different)
        if not words or in_a_row >= received:
            self._repeating[name] = 0
            return words
        # A camera that hung for a while repeats a part of the period in which it goes on.
        self._repeating[name] += 1
        return words if self._repeating[name] >= _PERIODS_IN_A_ROW else ""

    def _mixed(self, subscriptions: Subscriptions, name: str, received: int, changes: int) -> str:
        recent = self._recent[name]
        recent.append((received, changes))
        if not any(changes for _, changes in recent):
            return ""
        publishers = publisher_names(self._node, subscriptions.topics[name])
        if len(publishers) > 1 and changes < 2:
            # A second publisher may send once a second only.
            received, changes = (sum(numbers) for numbers in zip(*recent))
        return mixed_sources(received, changes, publishers, subscriptions.sources[name])

    def _since_last(self, name: str, count: str, value: int) -> int:
        previous, self._previous[name, count] = self._previous[name, count], value
        return value - previous

    def _warn(self, kind: str, problems: Mapping[str, str]) -> None:
        """Log each problem once, whatever its numbers, and equal problems of several topics in one line."""
        topics: dict[str, list[str]] = {}
        for topic, problem in problems.items():
            # That it costs the sets the sensor adds nothing to a problem that was told.
            words = (kind, topic, _NUMBER.sub("", problem.removeprefix(_IN_NO_SET)))
            if problem and words not in self._warned:
                self._warned.add(words)
                topics.setdefault(problem, []).append(topic)
        for problem, names in topics.items():
            self._node.get_logger().warning(f"{', '.join(names)}: {problem}")


def _why_unused(subscriptions: Subscriptions, name: str) -> str:
    settings, reference = subscriptions.settings, subscriptions.settings.reference
    stream = settings.streams[name]
    if stream.window > 1 and subscriptions.synchronizer.held(name) < stream.least:
        return f"it takes {stream.least} samples (least) without a silence of {stream.timeout:g} s (timeout)"
    lags_s = {
        one: (subscriptions.arrived_ns[one] - stamp_ns) / 1e9 - settings.streams[one].offset
        for one, stamp_ns in subscriptions.stamps_ns.items()
        if stamp_ns and monotonic() - subscriptions.arrived_s[one] < _PERIOD_S
    }
    lag_s = lags_s.pop(name, None)
    # Without a living reference, and for the reference itself, the usual one of the others says what the time is.
    usual = sorted(lags_s, key=lags_s.__getitem__)[len(lags_s) // 2 :]
    other = reference if reference in lags_s else next(iter(usual), None)
    if lag_s is None or other is None:
        return f"no stamp lies within {stream.tolerance:g} s (tolerance) of a set's"
    if lag_s > lags_s[other] + settings.max_wait:
        # A late message and a slow clock look the same from here; the sentence names both.
        return (
            f"messages arrive {span(lag_s)} after their stamps, {span(lag_s - lags_s[other])} later than those of "
            f"{other}, and sets wait {settings.max_wait:g} s (max_wait): the driver is slow, or its clock is behind"
        )
    return (
        f"stamps are {span(abs(lag_s - lags_s[other]))} {'ahead of' if lag_s < lags_s[other] else 'behind'} those of "
        f"{other}, with a tolerance of {stream.tolerance:g} s: the clocks differ"
    )


def stamp_problem(stamp_ns: int, now_ns: int, *, future: bool, simulated: bool) -> str:
    """Return what is wrong with a stamp that is not of the node's time; empty if nothing is.

    Args:
        stamp_ns: the stamp, its stream's offset included.
        now_ns: when the message arrived, by the node's clock.
        future: whether the sample was dropped because its stamp lies too far ahead.
        simulated: whether the node's clock is `/clock`.
    """
    behind_s = (now_ns - stamp_ns) / 1e9
    if behind_s < 0.0 and future:
        cause = ": they seem to be real time, which /clock is not" if simulated and behind_s < -_DAY_S else ""
        ahead = f"stamps are {span(-behind_s)} ahead of the node's clock"
        return f"{ahead}, more than the parameter future allows, and dropped{cause}"
    if behind_s <= _MOST_BEHIND_S:
        return ""
    return f"stamps are {span(behind_s)} behind the node's clock: {_cause(stamp_ns, behind_s, simulated)}"


def _cause(stamp_ns: int, behind_s: float, simulated: bool) -> str:
    if stamp_ns / 1e9 < _LONGEST_RUN_S and behind_s > _LONGEST_RUN_S:
        cause = "they seem to count from the start of the machine or of a simulation"
    elif behind_s > _DAY_S:
        cause = "they seem to be of a recording"
    else:
        return "the driver is slow, or its clock is another"
    return cause if simulated else f"{cause} (use_sim_time is false)"
