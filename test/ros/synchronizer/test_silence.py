"""Sets make up for the time in which the reference was waited for, or brought nothing usable. In milliseconds."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smvae_ros.synchronizer.rhythm import Rhythm
from smvae_ros.synchronizer.set_synchronizer import SampleSet

from .bench import ACTION, CAMERA, FORCE, MS, START, Bench

RGB = replace(CAMERA, tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=16)
STREAMS = {
    "rgb": RGB,
    "depth": replace(RGB, name="depth"),
    "force": replace(FORCE, tolerance_ns=25 * MS, depth=160, window=8, least=8),
    "action": replace(ACTION, tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=64),
}


def play(
    periods: dict[str, int],
    gone: dict[str, tuple[float, float]],
    lags: dict[str, int],
    end: int = 4000,
    **options: float,
) -> Bench:
    """Play streams of these periods and lags, each without the samples that are sent while it is gone."""
    bench = Bench(*[STREAMS[name] for name in periods], **options)
    arrivals = []
    for name, period in periods.items():
        begin, back = gone.get(name, (end, end))
        arrivals += [
            (sent + lags.get(name, 3), name, sent) for sent in range(10, end, period) if not begin <= sent < back
        ]
    for now, name, sent in sorted(arrivals):
        bench.add(name, sent, now)
    bench.poll_until(end + 1000)
    return bench


def used(bench: Bench, name: str) -> list[int]:
    """The stamps of a modality's samples in sets, in the order of the sets; of a window, the newest."""
    return [one.samples[name][-1].stamp_ns // MS - START for one in bench.sets if name in one.samples]


def made_up(bench: Bench) -> list[SampleSet]:
    return [one for one in bench.sets if one.made_up]


def test_what_was_waited_for_goes_out_at_once_at_the_references_own_rate() -> None:
    bench = play({"rgb": 40, "depth": 40, "force": 4, "action": 50}, {"rgb": (2000, 4000)}, {"rgb": 6})
    last = 1970
    sets = made_up(bench)
    assert [one.stamp_ns // MS - START for one in sets] == list(range(last + 40, 2480, 40)), "until the first tick"
    assert {set(one.samples) == {"depth", "force", "action"} for one in sets} == {True}
    assert {one.reason for one in sets} == {"tick"}
    # All but the last, which may still get samples, when the reference counts as silent.
    silent = START + last + 6 + 500
    assert {one.emitted_ns // MS for one in sets[:-1]} == {silent}
    assert silent <= sets[-1].emitted_ns // MS <= silent + 50


def test_nothing_of_a_camera_at_the_references_rate_is_lost() -> None:
    bench = play({"rgb": 50, "depth": 50}, {"rgb": (2000, 3000)}, {})
    assert used(bench, "depth") == list(range(10, 4000, 50))
    assert not bench.dropped("depth")


def test_a_faster_reference_is_made_up_for_by_at_most_32_sets_that_span_the_whole_silence() -> None:
    bench = Bench(replace(RGB, period_ns=0, depth=32), replace(STREAMS["action"], depth=200))
    for stamp in range(0, 2000):
        if stamp < 1000:
            bench.add("rgb", stamp)
        if stamp % 5 == 0:
            bench.add("action", stamp)
    stamps = [one.stamp_ns for one in made_up(bench)]
    assert 25 <= len(stamps) <= 32
    spacings = {later - earlier for earlier, later in pairwise([(START + 999) * MS, *stamps])}
    assert max(spacings) - min(spacings) <= 1 and max(spacings) < 20 * MS
    assert stamps[-1] > (START + 1470) * MS


def test_a_reference_slower_than_its_timeout_is_not_made_up_for() -> None:
    bench = play({"rgb": 1000, "depth": 50}, {}, {}, end=6000)
    assert not [one for one in made_up(bench) if one.stamp_ns > (START + 1600) * MS]


def test_streams_that_died_before_the_reference_was_given_up_bring_what_they_have() -> None:
    bench = play(
        {"rgb": 50, "depth": 50, "force": 4}, {"rgb": (2000, 4000), "depth": (2300, 4000), "force": (2100, 4000)}, {}
    )
    assert used(bench, "depth") == list(range(10, 2300, 50))
    assert used(bench, "force")[-1] > 2080


def test_a_reference_that_is_disabled_is_made_up_for() -> None:
    bench = Bench(RGB, STREAMS["depth"])
    for stamp in range(0, 1300, 50):
        if stamp < 1000:
            bench.add("rgb", stamp)
        bench.add("depth", stamp)
    bench.sets += bench.synchronizer.change([replace(RGB, enabled=False)], 50 * MS, (START + 1260) * MS)
    bench.poll_until(1280)
    assert used(bench, "depth") == list(range(0, 1300, 50))


GAPS = st.dictionaries(
    st.sampled_from(list(STREAMS)), st.tuples(st.integers(500, 2500), st.integers(0, 2000)), max_size=3
)
LAGS = st.fixed_dictionaries({name: st.integers(0, 45) for name in STREAMS})


@settings(max_examples=40, deadline=None)
@given(GAPS, LAGS, st.sampled_from((33, 40, 50)))
def test_stamps_increase_no_set_goes_out_twice_and_every_sample_is_accounted_for(
    gaps: dict[str, tuple[int, int]], lags: dict[str, int], period: int
) -> None:
    gone = {name: (begin, begin + length) for name, (begin, length) in gaps.items()}
    bench = play({"rgb": period, "depth": period, "force": 4, "action": 50}, gone, lags)
    stamps = [one.stamp_ns for one in bench.sets]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    emitted = [one.emitted_ns for one in bench.sets]
    assert emitted == sorted(emitted)
    for name in ("rgb", "depth"):
        assert used(bench, name) == sorted(set(used(bench, name))), name
    for name, counts in bench.synchronizer.counts.items():
        assert counts.received == counts.used + counts.dropped.total() + bench.synchronizer.held(name), name


@settings(max_examples=40, deadline=None)
@given(st.integers(1000, 1050), st.integers(0, 900), st.integers(0, 20), st.sampled_from((40, 50)))
def test_a_silence_of_any_length_costs_no_sample_of_a_camera_beside_it(
    begin: int, length: int, lag: int, period: int
) -> None:
    bench = play({"rgb": period, "depth": period}, {"rgb": (begin, begin + length)}, {"rgb": lag, "depth": lag})
    sent = range(10, 4000, period)
    assert set(sent) <= set(used(bench, "depth"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1000, 1050), st.integers(0, 499), LAGS)
def test_a_reference_that_is_back_within_its_timeout_has_the_sets_that_it_always_had(
    begin: int, delay: int, lags: dict[str, int]
) -> None:
    periods = {"rgb": 40, "depth": 40, "force": 4, "action": 50}
    back = begin + delay
    last = max(stamp for stamp in range(10, 4000, 40) if stamp < begin)
    first = min(stamp for stamp in range(10, 4000, 40) if stamp >= back)
    assume(first - last < 500)
    bench = play(periods, {"rgb": (begin, back)}, lags)
    assert [one.stamp_ns // MS - START for one in bench.sets if "rgb" in one.samples] == [
        stamp for stamp in range(10, 4000, 40) if not begin <= stamp < back
    ]
    assert [one.stamp_ns // MS - START for one in made_up(bench)] == list(range(last + 40, first, 40))


def test_after_a_faster_reference_died_ticks_go_on_at_its_rate_and_after_a_slower_one_at_their_own() -> None:
    for period, spacing in ((40, 40), (100, 50)):
        bench = play({"rgb": period, "depth": 20}, {"rgb": (2000, 4000)}, {})
        stamps = [stamp for stamp in bench.stamps() if 2800 < stamp < 3900]
        assert {later - earlier for earlier, later in pairwise(stamps)} == {spacing}


def test_a_camera_that_sends_each_picture_twice_has_one_set_for_each() -> None:
    bench = Bench(RGB, STREAMS["force"])
    for stamp in range(0, 4000, 4):
        bench.add("force", stamp)
        if stamp % 40 == 0:
            bench.add("rgb", stamp)
            bench.add("rgb", stamp, now=stamp + 1)
    assert bench.stamps() == [*range(0, 4000, 40)]


def test_a_reference_that_became_slower_is_made_up_for_until_that_is_its_rhythm() -> None:
    bench = Bench(RGB, STREAMS["depth"])
    for stamp in range(0, 6000, 50):
        if stamp < 2000 or stamp % 100 == 0:
            bench.add("rgb", stamp)
        bench.add("depth", stamp)
    assert [stamp for stamp in bench.stamps() if stamp > 2000] == [*range(2050, 5901, 50)]
    rhythm = Rhythm(0)
    spacings = [50] * 100 + [100] * 2000
    for now in accumulate(spacings):
        rhythm.note(now, now)
    assert rhythm.spacing_ns == 100


def test_unusable_pictures_between_the_others_cost_only_themselves() -> None:
    bench = Bench(RGB, STREAMS["depth"])
    for stamp in range(0, 2000, 50):
        bench.add("depth", stamp)
        if stamp % 100:
            bench.sets += bench.synchronizer.reject("rgb", (START + stamp + 5) * MS)
        else:
            bench.add("rgb", stamp, now=stamp + 5)
    assert used(bench, "rgb") == [*range(0, 2000, 100)]
    # Until fifteen messages have come nobody knows the reference's rhythm; the last waits for its next message.
    filled = [*range(800, 1950, 50)]
    assert [stamp for stamp in used(bench, "depth") if stamp >= 800] == filled


def test_a_sensor_that_sends_on_events_has_no_gaps() -> None:
    bench = Bench(RGB, STREAMS["depth"])
    moments = list(accumulate([30, 200, 10, 80, 50, 20, 120] * 30))
    for now in range(moments[-1] + 1):
        if now % 10 == 0:
            bench.add("depth", now)
        if now in moments:
            bench.add("rgb", now)
    assert used(bench, "rgb") == moments
    assert all("rgb" in one.samples for one in bench.sets)


@pytest.mark.parametrize(("lag", "leap"), [(3, 349), (60, 90), (120, 150), (60, 700)])
def test_every_other_stamp_that_leaps_ahead_costs_the_others_nothing(lag: int, leap: int) -> None:
    bench = Bench(RGB, STREAMS["depth"], STREAMS["force"], future=1000)
    arrivals = [(sent + 2, "force", sent) for sent in range(10, 5000, 4)]
    for index, sent in enumerate(range(10, 5000, 50)):
        arrivals += [(sent + 40, "depth", sent)]
        arrivals += [(sent + lag, "rgb", sent + (leap if sent > 2000 and index % 2 else 0))]
    for now, name, stamp in sorted(arrivals):
        bench.add(name, stamp, now)
    lost = set(range(2010, 4700, 50)) - set(used(bench, "depth"))
    assert len(lost) <= 2
    assert bench.dropped("rgb")["unmatched"] >= 25
