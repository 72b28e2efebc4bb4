"""The reference's rhythm is seen in late, lost and bad messages, and in no sensor that sends on events. In ms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_ros.synchronizer.rhythm import Rhythm

from .bench import MS, START, Bench
from .test_liveness import STREAMS

PATTERNS: dict[str, Callable[[int], bool]] = {
    "every other": lambda index: index % 2 == 1,
    "every third": lambda index: index % 3 == 1,
    "two of three": lambda index: index % 3 != 0,
    "pairs": lambda index: index // 2 % 2 == 1,
    "half at random": lambda index: Random(index).random() < 0.5,
    "most at random": lambda index: Random(index).random() < 0.9,
}
RATES = (15, 20, 30, 60)


def play(rate: int, delay: Callable[[int], float], seconds: float = 8) -> Bench:
    """Play two cameras of a rate and the other streams; RGB's pictures, the reference, arrive with a delay."""
    period = 1000 / rate
    cameras = {name: replace(STREAMS[name], period_ns=int(0.9 * period * MS)) for name in ("rgb", "depth")}
    bench = Bench(*{**STREAMS, **cameras}.values())
    arrivals = []
    for name, spacing in {"rgb": period, "depth": period, "force": 5.0, "action": 50.0}.items():
        for index in range(int(1000 * seconds / spacing)):
            stamp = 10 + index * spacing
            arrivals.append((stamp + 5 + (delay(index) if name == "rgb" else 0), name, stamp))
    for now, name, stamp in sorted(arrivals):
        if now < 1000 * seconds:
            bench.add(name, stamp, now)
    return bench


def shares(bench: Bench, rate: int, begin: int, end: int) -> dict[str, float]:
    """Return the sets with depth and with force, and all, that left in a time, as shares of the pictures sent in it."""
    sets = [one for one in bench.sets if begin <= one.emitted_ns / MS - START < end]
    sent = rate * (end - begin) / 1000
    found = {name: sum(name in one.samples for one in sets) / sent for name in ("depth", "force")}
    return {**found, "all": len(sets) / sent}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATES),
    st.sampled_from(list(PATTERNS)),
    st.integers(60, 1500),
    st.sampled_from((0, 0, 4, 8)),
    st.data(),
)
def test_pictures_that_always_came_late_cost_the_others_nothing(
    rate: int, pattern: str, late: int, jitter: int, data: st.DataObject
) -> None:
    by_chance = data.draw(st.booleans())

    def delay(index: int) -> float:
        random = Random(index)
        lateness = random.uniform(0, late) if by_chance else late
        return random.uniform(0, jitter) + (lateness if PATTERNS[pattern](index) else 0)

    found = shares(play(rate, delay), rate, 4000, 7900)
    assert min(found["depth"], found["force"]) >= 0.9, found
    # Late pictures of a fast camera may arrive midway between the others, and look like twice the rate.
    assert found["all"] <= (2.1 if rate == 60 else 1.25), found


@pytest.mark.parametrize("burst", [100, 250])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pattern", ["every other", "every third", "half at random"])
def test_late_pictures_that_arrive_in_bursts_cost_the_others_nothing(pattern: str, rate: int, burst: int) -> None:
    def delay(index: int) -> float:
        sent = 15 + index * 1000 / rate
        return -(-(sent + 300) // burst) * burst - sent if PATTERNS[pattern](index) else 0

    found = shares(play(rate, delay), rate, 4000, 7900)
    assert min(found["depth"], found["force"]) >= 0.9, found


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("late", [250, 300, 400, 600, 1500])
def test_pictures_that_come_later_than_the_others_are_kept_cost_only_themselves(rate: int, late: int) -> None:
    found = shares(play(rate, lambda _: late), rate, 3000, 7900)
    assert min(found["depth"], found["force"]) >= 0.9, found


def test_a_reference_on_time_has_no_set_but_its_own() -> None:
    for rate in RATES:
        bench = play(rate, lambda index: Random(index).uniform(0, 8))
        assert len(bench.sets) == bench.synchronizer.counts["rgb"].sets, rate


EVENTS: dict[str, Callable[[Random], float]] = {
    "at any time": lambda random: random.expovariate(1 / 100),
    "20 to 180 ms apart": lambda random: random.uniform(20, 180),
    "10 to 290 ms apart, in tens": lambda random: 10 * random.randint(1, 29),
    "mostly close together": lambda random: random.lognormvariate(4, 1),
}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(EVENTS)), st.integers(0, 9999))
def test_a_sensor_that_sends_on_events_has_hardly_any_gaps(kind: str, seed: int) -> None:
    random = Random(seed)
    rhythm = Rhythm(0)
    gaps, last = 0, 0.0
    for now in accumulate(EVENTS[kind](random) for _ in range(1500)):
        rhythm.note(int((now + random.uniform(3, 6)) * MS), int(now * MS))
        gaps += rhythm.is_steady and (now - last) * MS > 1.5 * rhythm.spacing_ns
        last = now
    # None of nearly all seeds; what comes 20 to 180 ms apart may look steady for a while.
    assert gaps <= 150


@pytest.mark.parametrize("pause", [1000, 10_000, 3_600_000])
def test_a_pause_does_not_hide_the_rhythm(pause: int) -> None:
    rhythm = Rhythm(0)
    for now in accumulate([33] * 20 + [pause] + [33] * 20):
        rhythm.note(now * MS, now * MS)
    assert (rhythm.spacing_ns, rhythm.is_steady) == (33 * MS, True)


@pytest.mark.parametrize("period", [0, 40])
def test_messages_that_all_arrive_at_once_leave_a_rhythm_to_go_on_with(period: int) -> None:
    bench = Bench(replace(STREAMS["rgb"], period_ns=period * MS), STREAMS["depth"])
    for start in range(0, 12_000, 4000):
        for stamp in range(start, start + 4000, 33):
            bench.add("rgb", stamp, now=start + 4000)
            bench.add("depth", stamp, now=start + 4000)
    bench.poll_until(20_000)
    assert len(bench.sets) < 2 * 12_000 / 33


def test_lost_messages_leave_the_rhythm_as_it_was() -> None:
    rhythm, random = Rhythm(0), Random(0)
    for index in range(1000):
        if index < 60 or random.random() < 0.5:
            rhythm.note(33 * index * MS, 33 * index * MS)
    assert (rhythm.spacing_ns, rhythm.is_steady) == (33 * MS, True)


def test_stamps_that_nearly_repeat_and_end_set_off_few_sets() -> None:
    bench = Bench(STREAMS["rgb"], STREAMS["depth"])
    for now in range(0, 6000, 33):
        if now < 3000:
            for index in range(10):
                bench.synchronizer.add("rgb", (START + now) * MS + index, None, (START + now) * MS + index)
        bench.add("depth", now)
    sets = [one for one in bench.sets if one.emitted_ns > (START + 3600) * MS]
    assert 0.9 * 2400 / 50 <= len(sets) <= 2400 / 1.5
