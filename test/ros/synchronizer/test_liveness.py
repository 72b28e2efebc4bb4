"""A stream lives by samples that can be used; whatever one stream does, the others go out. Times are milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_ros.synchronizer.set_synchronizer import SampleSet, SetSynchronizer

from .bench import ACTION, CAMERA, DEPTH, FORCE, MS, START, Bench

# The node's defaults, and a slower force/torque sensor.
STREAMS = {
    "rgb": replace(CAMERA, tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=16, period_ns=30 * MS),
    "depth": replace(DEPTH, tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=16, period_ns=30 * MS),
    "force": replace(FORCE, tolerance_ns=25 * MS, timeout_ns=200 * MS, depth=120, window=8, least=8, period_ns=4 * MS),
    "action": replace(ACTION, tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=64, hold_ns=100 * MS),
}
PERIODS = {"rgb": 33, "depth": 33, "force": 5, "action": 50}


@dataclass(frozen=True)
class Fault:
    """What one stream does from `begin` on, at its declared rate.

    Attributes:
        kind: frozen (one stamp), repeated (the stamp of the message before), offset (stamps off by `ms`), scattered
            (off by up to `ms` either way), late (arrives `ms` after its stamp), rejected, silent, back (stamps go back
            by `ms` once, and on from there), mixed (each of these).
        ms: by how much.
        share: of the messages that have the fault.
        run: so many messages in a row have it, or have not.
        begin: when it begins, in milliseconds.
        seed: of the messages that have it.
    """

    kind: str
    ms: int = 0
    share: float = 1.0
    run: int = 1
    begin: int = 2000
    seed: int = 0

    def has(self, index: int) -> bool:
        """Return whether a message has the fault: at random, or for a share of a half in turns."""
        part = index // self.run
        return part % 2 == 1 if self.share == 0.5 else Random(f"{self.seed} {part}").random() < self.share

    def apply(self, index: int, sent: int, delay: int, period: int) -> tuple[int, int, bool] | None:
        """Return stamp, arrival and whether a message of this time can be used; None for no message."""
        kind, random = self.kind, Random(f"{self.seed} {index} how")
        if kind == "mixed":
            kind = random.choice(("repeated", "scattered", "late", "rejected", "silent"))
        if kind == "silent":
            return None
        stamps = {"frozen": self.begin, "repeated": sent - period, "offset": sent + self.ms, "back": sent - self.ms}
        stamps["scattered"] = sent + random.randint(-abs(self.ms), abs(self.ms))
        late = self.ms if kind == "late" else 0
        return stamps.get(kind, sent), sent + delay + late, kind != "rejected"


def run(faulty: str, fault: Fault, seconds: int = 8) -> tuple[list[SampleSet], SetSynchronizer]:
    synchronizer = SetSynchronizer(
        STREAMS.values(), reference="rgb", max_wait_ns=50 * MS, tick_ns=50 * MS, future_ns=100 * MS
    )
    arrivals: list[tuple[int, str, int, bool]] = []
    for name, period in PERIODS.items():
        delay = 2 if name == "force" else 5
        for index, sent in enumerate(range(10, 1000 * seconds, period)):
            message: tuple[int, int, bool] | None = sent, sent + delay, True
            if name == faulty and sent >= fault.begin and fault.has(index):
                message = fault.apply(index, sent, delay, period)
            if message is not None:
                stamp, at, usable = message
                arrivals.append((at, name, stamp, usable))
    sets: list[SampleSet] = []
    for at, name, stamp, usable in sorted(arrivals, key=lambda arrival: arrival[:2]):
        if at > 1000 * seconds:
            break
        now_ns = (START + at) * MS
        while (due_ns := synchronizer.next_deadline()) is not None and due_ns <= now_ns:
            sets += synchronizer.poll(due_ns)
        if usable:
            sets += synchronizer.add(name, (START + stamp) * MS, None, now_ns)
        else:
            sets += synchronizer.reject(name, now_ns)
    return sets, synchronizer


def rates(sets: list[SampleSet], begin: int, end: int) -> dict[str, float]:
    """Sets per second with each modality, of those that left from `begin` to `end`."""
    within = [one for one in sets if begin <= one.emitted_ns // MS - START < end]
    return {name: 1000 * sum(name in one.samples for one in within) / (end - begin) for name in PERIODS}


OFFSETS = st.one_of(
    st.sampled_from([-86_400_000, -5000, -700, -200, -90, -40, -25, 25, 40, 60, 90, 150, 3000, 86_400_000]),
    st.integers(-2000, 2000),
)
WHOLE = st.one_of(
    st.sampled_from([Fault("frozen"), Fault("rejected"), Fault("silent")]),
    st.builds(Fault, st.just("offset"), OFFSETS),
    st.builds(Fault, st.just("late"), st.integers(0, 2000)),
    st.builds(Fault, st.just("back"), st.integers(600, 5000)),
)
SHARES = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])
RUNS = st.sampled_from([1, 1, 2, 5])
# From the first message on, too: what a stream may bring is known only by the messages that are right.
BEGINS = st.sampled_from([0, 2000])
SEEDS = st.integers(0, 99)
KINDS = st.sampled_from(["repeated", "rejected", "offset", "scattered", "mixed"])
IN_PART = st.one_of(
    # Where hardly a message was ever right and some never came, nobody knows the rate: one such fault in 70 costs more.
    st.builds(Fault, KINDS, OFFSETS, SHARES, RUNS, BEGINS, SEEDS).filter(
        lambda fault: not (fault.kind == "mixed" and fault.share > 0.7 and fault.begin == 0)
    ),
    st.builds(Fault, st.just("late"), st.integers(0, 2000), SHARES, RUNS, BEGINS, SEEDS),
    # A camera that always loses most of its pictures is a slower camera.
    st.builds(Fault, st.just("silent"), st.just(0), SHARES, RUNS, st.just(2000), SEEDS),
)
FAULTS = st.one_of(WHOLE, IN_PART)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["depth", "force", "action"]), FAULTS)
def test_whatever_one_stream_does_the_others_go_out(faulty: str, fault: Fault) -> None:
    sets, synchronizer = run(faulty, fault)
    found = rates(sets, 3000, 7900)
    for name in PERIODS:
        if name != faulty:
            assert found[name] >= 0.9 * 30, (name, found)
    assert synchronizer.resets == 0


@settings(max_examples=120, deadline=None)
@given(FAULTS)
def test_whatever_the_reference_does_the_others_go_out_at_their_rate(fault: Fault) -> None:
    sets, synchronizer = run("rgb", fault)
    found = rates(sets, 3000, 7900)
    for name in ("depth", "force", "action"):
        assert found[name] >= 0.9 * 30, (name, found, synchronizer.counts["rgb"])
    assert synchronizer.resets == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 49), st.integers(0, 49), st.integers(1, 45))
def test_an_unplugged_reference_costs_no_sample_of_a_camera_at_its_rate(unplugged: int, phase: int, lag: int) -> None:
    bench = Bench(STREAMS["rgb"], STREAMS["depth"])
    for stamp in range(phase, 6000, 50):
        if stamp < 2000 + unplugged:
            bench.add("rgb", stamp, now=stamp + lag)
        bench.add("depth", stamp, now=stamp + lag)
    bench.poll_until(6200)
    # While the reference is silent for less than its timeout, it may still come.
    silent = 2000 + unplugged + STREAMS["rgb"].timeout_ns // MS + 50
    used = {sample.stamp_ns // MS - START for one in bench.sets for sample in one.samples.get("depth", ())}
    expected = {stamp for stamp in range(phase, 6000, 50) if stamp < 2000 or stamp > silent}
    assert not expected - used


@pytest.mark.parametrize("faulty", ["depth", "force", "action"])
@pytest.mark.parametrize(
    "fault", [Fault("frozen"), Fault("rejected"), Fault("offset", -5000), Fault("late", 3000), Fault("offset", 150)]
)
def test_a_stream_without_usable_samples_is_dead_and_not_waited_for(faulty: str, fault: Fault) -> None:
    sets, synchronizer = run(faulty, fault)
    assert not synchronizer.alive(faulty, (START + 7990) * MS)
    usual, _ = run(faulty, Fault("silent"))
    later = [one.emitted_ns - one.opened_ns for one in sets if one.opened_ns > (START + 3000) * MS]
    silent = [one.emitted_ns - one.opened_ns for one in usual if one.opened_ns > (START + 3000) * MS]
    assert max(later) <= max(silent) + 1 * MS


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PERIODS)), FAULTS)
def test_every_sample_is_counted_once(faulty: str, fault: Fault) -> None:
    _, synchronizer = run(faulty, fault, seconds=4)
    for name, counts in synchronizer.counts.items():
        assert counts.received == counts.used + counts.dropped.total() + synchronizer.held(name), name


def test_a_stream_that_was_late_comes_back_although_nothing_waited_for_it() -> None:
    bench = Bench(CAMERA, DEPTH)
    for stamp in range(0, 3000, 50):
        bench.add("rgb", stamp, now=stamp + 5)
    late = Bench(CAMERA, DEPTH)
    arrivals = [(stamp + 5, "rgb", stamp) for stamp in range(0, 4000, 50)]
    arrivals += [(stamp + (400 if 1000 <= stamp < 2000 else 40), "depth", stamp) for stamp in range(0, 4000, 50)]
    for now, name, stamp in sorted(arrivals):
        late.add(name, stamp, now=now)
    late.poll_until(5000)
    present = {one.stamp_ns // MS - START for one in late.sets if "depth" in one.samples}
    assert not present & set(range(1000, 2000, 50))
    assert present >= {*range(0, 1000, 50), *range(2100, 4000, 50)}


def test_rejected_samples_are_counted_as_received_and_dropped() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("rgb", 0)
    bench.synchronizer.reject("depth", START * MS)
    counts = bench.synchronizer.counts["depth"]
    assert (counts.received, dict(counts.dropped)) == (1, {"rejected": 1})


def test_a_sample_that_proves_unusable_in_its_set_is_counted_as_rejected_not_as_used() -> None:
    bench = Bench(CAMERA)
    bench.add("rgb", 0)
    bench.synchronizer.reject_used("rgb", 1)
    counts = bench.synchronizer.counts["rgb"]
    assert (counts.received, counts.used, counts.sets, dict(counts.dropped)) == (1, 0, 0, {"rejected": 1})


def test_samples_at_the_start_of_another_pass_are_kept_until_all_streams_begin_anew() -> None:
    bench = Bench(CAMERA, DEPTH)
    for start in (10_000, 11_000):
        for stamp in range(0, 1000, 50):
            bench.add("depth", stamp, now=start + stamp)
            bench.add("rgb", stamp, now=start + stamp + 1)
    bench.poll_until(20_000)
    assert bench.synchronizer.resets == 1
    assert [set(one.samples) for one in bench.sets] == [{"rgb", "depth"}] * 40


def test_most_streams_late_by_the_same_time_do_not_silence_a_reference_that_is_on_time() -> None:
    bench = Bench(*STREAMS.values())
    arrivals = []
    for name, period in PERIODS.items():
        for sent in range(10, 6000, period):
            late = 500 if sent >= 2000 and name in ("depth", "force") else 4 if name == "rgb" else 1
            arrivals.append((sent + late, name, sent))
    for at, name, stamp in sorted(arrivals):
        bench.add(name, stamp, at)
    images = set(range(10, 5900, PERIODS["rgb"]))
    assert images <= {round(stamp) for stamp in bench.stamps()}
    assert not bench.dropped("rgb")
