"""The synchroniser with stamps out of order, jumps of time, floods of samples and settings that cannot work."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .bench import CAMERA, DEPTH, FORCE, MS, START, Bench


def test_set_stamps_strictly_increase_and_late_and_duplicate_samples_are_counted() -> None:
    bench = Bench(CAMERA, DEPTH)
    for stamp, now in ((100, 100), (100, 101), (150, 150), (150, 152), (140, 153)):
        bench.add("depth", stamp, now)
        bench.add("rgb", stamp, now)
    bench.poll_until(1000)
    assert bench.stamps() == [100, 150]
    assert bench.dropped("rgb") == {"duplicate": 2, "late": 1}
    assert bench.dropped("depth") == {"duplicate": 2, "late": 1}


def test_references_out_of_order_are_put_in_place() -> None:
    bench = Bench(replace(CAMERA, ordered=False), DEPTH)
    for stamp in (0, 50, 100, 150):
        bench.add("depth", stamp, now=150)
    for stamp in (50, 0, 150, 100):
        bench.add("rgb", stamp, now=151)
    bench.poll_until(300)
    assert bench.stamps() == [0, 50, 100, 150]
    assert all(one.spread_ns == 0 for one in bench.sets)


def test_an_earlier_reference_does_not_hold_up_a_later_one_beyond_its_deadline() -> None:
    bench = Bench(replace(CAMERA, ordered=False), DEPTH)
    bench.add("rgb", 50, now=100)
    bench.add("rgb", 0, now=140)
    bench.poll_until(150)
    assert bench.stamps() == [0, 50]


def test_a_stamp_of_zero_takes_the_time_of_arrival_and_is_flagged() -> None:
    bench = Bench(CAMERA)
    (one,) = bench.synchronizer.add("rgb", 0, "headerless", (START + 7) * MS)
    assert one.stamp_ns == (START + 7) * MS
    assert bench.synchronizer.counts["rgb"].zero_stamp == 1


def test_samples_without_stamps_that_are_read_at_once_are_all_there() -> None:
    bench = Bench(CAMERA, FORCE, future=0)
    for moment in (80, 90, 100):
        for sample in range(4):
            bench.synchronizer.add("force", 0, f"{moment}.{sample}", (START + moment) * MS)
    bench.add("rgb", 101)
    bench.poll_until(300)
    assert [sample.data for sample in bench.sets[0].samples["force"]] == [f"100.{sample}" for sample in range(4)]
    assert not bench.dropped("force").keys() & {"duplicate", "future"}


def test_a_stamp_from_the_future_is_dropped_and_counted() -> None:
    bench = Bench(CAMERA, future=100)
    bench.add("rgb", 101, now=0)
    assert (bench.sets, bench.dropped("rgb")) == ([], {"future": 1})
    bench.add("rgb", 100, now=0)
    assert bench.stamps() == [100]


def test_a_streams_offset_moves_its_stamps() -> None:
    bench = Bench(CAMERA, replace(DEPTH, offset_ns=-30 * MS))
    bench.add("depth", 130)
    bench.add("rgb", 100, now=131)
    assert bench.sets[0].ages_ns == {"rgb": 0, "depth": 0}


def test_a_disabled_stream_is_counted_and_in_no_set() -> None:
    bench = Bench(CAMERA, replace(DEPTH, enabled=False))
    bench.add("depth", 100)
    bench.add("rgb", 100)
    assert bench.contents() == [{"rgb": ["rgb@100"]}]
    assert bench.dropped("depth") == {"disabled": 1}


def test_a_disabled_reference_leaves_the_sets_to_the_ticks() -> None:
    bench = Bench(replace(CAMERA, enabled=False), DEPTH)
    for stamp in range(10, 300, 50):
        bench.add("depth", stamp)
        bench.add("rgb", stamp)
    assert {one.reason for one in bench.sets} == {"tick"}


def test_a_clock_that_jumps_back_starts_a_new_epoch() -> None:
    bench = Bench(CAMERA, DEPTH)
    for _ in range(2):
        for stamp in range(0, 1000, 50):
            bench.add("depth", stamp)
            bench.add("rgb", stamp)
    assert [one.epoch for one in bench.sets] == [0] * 20 + [1] * 20
    assert bench.stamps() == [*range(0, 1000, 50)] * 2
    assert bench.synchronizer.resets == 1


def test_polling_notices_a_clock_that_jumps_back() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("rgb", 1000)
    assert bench.synchronizer.poll(START * MS) == []
    assert (bench.synchronizer.resets, bench.dropped("rgb")) == (1, {"reset": 1})


def test_a_clock_that_wavers_is_no_jump() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("rgb", 100, now=130)
    bench.add("depth", 100, now=129)
    assert (len(bench.sets), bench.synchronizer.resets) == (1, 0)


def test_a_bag_that_loops_under_a_running_clock_starts_a_new_epoch() -> None:
    bench = Bench(CAMERA, DEPTH)
    for loop in range(3):
        for stamp in range(0, 1000, 50):
            bench.add("depth", stamp, now=10_000 + 1000 * loop + stamp)
            bench.add("rgb", stamp, now=10_000 + 1000 * loop + stamp)
    assert bench.synchronizer.resets == 2
    assert bench.stamps() == [*range(0, 1000, 50)] * 3


def test_a_reset_forgets_the_samples_and_counts_them() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("rgb", 100)
    bench.synchronizer.reset()
    assert (bench.synchronizer.next_deadline(), bench.dropped("rgb")) == (None, {"reset": 1})
    bench.add("depth", 100)
    bench.add("rgb", 100)
    assert [(one.epoch, set(one.samples)) for one in bench.sets] == [(1, {"rgb", "depth"})]


def test_memory_is_bounded_and_what_overflows_is_counted() -> None:
    bench = Bench(replace(CAMERA, depth=3), replace(FORCE, depth=10), DEPTH)
    for stamp in range(1000):
        bench.synchronizer.add("force", (START + stamp) * MS, "", START * MS + 1000 * MS)
    assert bench.synchronizer.held("force") == 10
    assert bench.dropped("force") == {"overflow": 990}
    for stamp in range(1000):
        bench.synchronizer.add("rgb", (START + stamp) * MS, "", START * MS + 1000 * MS)
    assert bench.synchronizer.held("rgb") == 3
    assert bench.synchronizer.sets == {"overflow": 997}, "a reference that is one too many leaves early, not never"


def test_samples_closer_together_than_promised_are_waited_for() -> None:
    bench = Bench(CAMERA, replace(DEPTH, period_ns=40 * MS))
    bench.add("depth", 75)
    bench.add("depth", 85)
    bench.add("rgb", 100, now=100)
    assert bench.sets == [], "85 would do at a period of 40, but depth has been seen to come every 10"
    bench.add("depth", 95, now=101)
    bench.add("depth", 105, now=106)
    assert bench.contents() == [{"rgb": ["rgb@100"], "depth": ["depth@95"]}]


def test_a_reference_later_than_its_timeout_does_not_stop_the_ticks() -> None:
    bench = Bench(CAMERA, DEPTH)
    for stamp in range(0, 3000, 50):
        bench.add("depth", stamp + 1)
        if stamp >= 1000:
            bench.add("rgb", stamp - (10_000 if stamp < 2000 else 100), now=stamp + 2)
    reasons = [(stamp, one.reason) for stamp, one in zip(bench.stamps(), bench.sets)]
    assert [stamp for stamp, reason in reasons if reason == "tick"] == list(range(350, 2001, 50))
    assert [stamp for stamp, reason in reasons if reason != "tick"] == list(range(2050, 2900, 50))
    assert bench.dropped("rgb") == {"late": 23}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"least": 5}, "force: least must be at most the window of 4, found 5"),
        ({"depth": 3}, "force: depth must hold the window of 4, found 3"),
        ({"timeout_ns": 0}, "force: timeout_ns must be at least 1, found 0"),
        ({"hold_ns": 1}, "force: hold_ns must be 0 or at least the tolerance of 20000000, found 1"),
    ],
)
def test_a_stream_that_cannot_work_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FORCE, **change)


def test_streams_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="the reference must be one of rgb, found sonar"):
        Bench(CAMERA, reference="sonar")
    with pytest.raises(ValueError, match="each stream needs a name of its own"):
        Bench(CAMERA, CAMERA)
    with pytest.raises(ValueError, match="the reference must not be windowed"):
        Bench(CAMERA, FORCE, reference="force")
    with pytest.raises(ValueError, match="tick_ns must be at least 1, found 0"):
        Bench(CAMERA, tick=0)
    with pytest.raises(ValueError, match="expected a sample of rgb, found sonar"):
        Bench(CAMERA).add("sonar", 0)


@settings(max_examples=60, deadline=None)
@given(step=st.integers(40, 900), early=st.lists(st.sets(st.sampled_from(["rgb", "depth"])), min_size=8, max_size=60))
def test_samples_that_overtake_the_message_with_their_time_cost_no_set(step: int, early: list[set[str]]) -> None:
    timeout_ns = 2000 * MS
    bench = Bench(replace(CAMERA, timeout_ns=timeout_ns), replace(DEPTH, timeout_ns=timeout_ns), future=1000)
    bench.synchronizer.simulated = True
    for number, overtakes in enumerate(early, start=1):
        for name in sorted(overtakes):
            bench.add(name, stamp=number * step, now=(number - 1) * step)
        bench.poll_until(number * step)
        for name in sorted({"rgb", "depth"} - overtakes):
            bench.add(name, stamp=number * step, now=number * step)
    bench.poll_until((len(early) + 1) * step)
    of_pictures = [one for one in bench.sets if one.reason != "tick"]
    assert [one.stamp_ns // MS - START for one in of_pictures] == [n * step for n in range(1, len(early) + 1)]
    assert all(set(one.samples) == {"rgb", "depth"} for one in of_pictures)
