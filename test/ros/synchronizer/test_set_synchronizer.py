"""The samples of a set and when it leaves, one test for each point of the contract. Times are milliseconds."""

import subprocess
import sys
from dataclasses import replace

import pytest

from .bench import ACTION, CAMERA, DEPTH, FORCE, MS, START, Bench


def test_it_runs_without_ros_numpy_or_any_other_package() -> None:
    code = """
import sys
import smvae_ros.synchronizer.sample_selection, smvae_ros.synchronizer.set_synchronizer
sys.exit(bool({"rclpy", "numpy", "pydantic"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_each_reference_gets_the_nearest_sample_within_tolerance() -> None:
    bench = Bench(CAMERA, replace(DEPTH, period_ns=0))
    for stamp in (75, 95, 108, 130):
        bench.add("depth", stamp)
    bench.add("rgb", 100, now=131)
    assert bench.contents() == [{"rgb": ["rgb@100"], "depth": ["depth@95"]}]
    bench.add("rgb", 160, now=161)
    bench.poll_until(300)
    assert bench.contents()[1] == {"rgb": ["rgb@160"]}, "130 is 30 away"


def test_of_two_samples_as_near_the_earlier_is_taken() -> None:
    bench = Bench(CAMERA, replace(DEPTH, period_ns=0))
    bench.add("depth", 90)
    bench.add("depth", 110)
    bench.add("rgb", 100, now=111)
    assert bench.contents() == [{"rgb": ["rgb@100"], "depth": ["depth@90"]}]


def test_a_window_is_the_newest_samples_up_to_the_reference() -> None:
    bench = Bench(CAMERA, FORCE)
    for stamp in range(70, 106, 5):
        bench.add("force", stamp)
    bench.add("rgb", 100, now=106)
    assert bench.contents() == [{"rgb": ["rgb@100"], "force": [f"force@{stamp}" for stamp in (85, 90, 95, 100)]}]


@pytest.mark.parametrize(
    ("stamps", "present"), [((90, 95, 100), False), ((85, 90, 95, 100), True), ((64, 68, 72, 76), False)]
)
def test_a_window_with_too_few_or_too_old_samples_is_absent(stamps: tuple[int, ...], present: bool) -> None:
    bench = Bench(CAMERA, FORCE)
    for stamp in stamps:
        bench.add("force", stamp)
    bench.add("rgb", 100)
    bench.poll_until(200)
    assert ["force" in one.samples for one in bench.sets] == [present]


def test_a_window_does_not_reach_back_across_a_silence() -> None:
    bench = Bench(CAMERA, replace(FORCE, least=2))
    for stamp in (10, 20, 30, 330, 335, 340):
        bench.add("force", stamp)
    bench.add("rgb", 340)
    assert bench.contents() == [{"rgb": ["rgb@340"], "force": ["force@330", "force@335", "force@340"]}]


def test_windows_slide_where_references_come_faster_than_they_fill() -> None:
    bench = Bench(replace(CAMERA, period_ns=5 * MS), FORCE)
    for stamp in range(80, 111, 5):
        bench.add("force", stamp)
    bench.add("rgb", 100, now=110)
    bench.add("rgb", 110)
    assert [one["force"] for one in bench.contents()] == [
        ["force@85", "force@90", "force@95", "force@100"],
        ["force@95", "force@100", "force@105", "force@110"],
    ]
    assert bench.synchronizer.counts["force"].used == 6


def test_a_complete_set_leaves_at_once_and_says_so() -> None:
    bench = Bench(CAMERA, DEPTH, FORCE)
    for stamp in range(80, 105, 4):
        bench.add("force", stamp)
    bench.add("rgb", 100, now=105)
    (one,) = bench.add("depth", 101, now=106)
    assert one.reason == "complete"
    assert (one.opened_ns, one.emitted_ns) == ((START + 105) * MS, (START + 106) * MS)
    assert one.ages_ns == {"rgb": 0, "depth": -MS, "force": 0}
    assert one.spread_ns == MS


@pytest.mark.parametrize(
    ("ordered", "period", "stamps", "leaves"),
    [
        (True, 0, (100,), True),
        (True, 0, (90,), False),
        (True, 0, (90, 110), True),
        (True, 40, (80,), True),
        (True, 39.999999, (80,), False),
        (True, 41, (79,), False),
        (True, 42, (79,), True),
        (False, 0, (100,), True),
        (False, 0, (90, 110), False),
        (False, 40, (81,), True),
        (False, 40, (120,), False),
        (False, 42, (79,), False),
    ],
)
def test_a_set_leaves_early_only_when_no_nearer_sample_can_come(
    ordered: bool, period: float, stamps: tuple[int, ...], leaves: bool
) -> None:
    bench = Bench(CAMERA, replace(DEPTH, ordered=ordered, period_ns=round(period * MS)))
    for stamp in stamps:
        bench.add("depth", stamp)
    assert len(bench.add("rgb", 100, now=130)) == leaves


@pytest.mark.parametrize(
    ("ordered", "stamps", "leaves"),
    [
        (True, (84, 88, 92, 96), False),
        (True, (85, 89, 93, 97), True),
        (True, (97,), True),
        (False, (84, 88, 92, 96), False),
        (False, (85, 89, 93, 97), True),
        (False, (81, 89, 93, 97), False),
        (False, (89, 93, 97), False),
    ],
)
def test_a_set_leaves_early_only_when_its_window_is_settled(
    ordered: bool, stamps: tuple[int, ...], leaves: bool
) -> None:
    bench = Bench(CAMERA, replace(FORCE, ordered=ordered))
    for stamp in stamps:
        bench.add("force", stamp)
    assert len(bench.add("rgb", 100, now=130)) == leaves


@pytest.mark.parametrize(("previous", "leaves"), [(20, False), (21, True)])
def test_a_set_leaves_early_only_when_no_earlier_reference_can_come(previous: int, leaves: bool) -> None:
    bench = Bench(replace(CAMERA, ordered=False))
    bench.add("rgb", previous)
    assert len(bench.add("rgb", 100)) == leaves


def test_a_set_leaves_at_its_deadline_with_what_there_is() -> None:
    bench = Bench(CAMERA, DEPTH, FORCE)
    bench.add("depth", 0)
    bench.add("depth", 100)
    bench.add("rgb", 100, now=110)
    assert bench.synchronizer.next_deadline() == (START + 160) * MS
    assert bench.synchronizer.poll((START + 160) * MS - 1) == []
    (one,) = bench.synchronizer.poll((START + 160) * MS)
    assert (one.reason, set(one.samples)) == ("deadline", {"rgb", "depth"})


def test_a_call_that_comes_after_the_deadline_changes_nothing_but_the_time_of_emission() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("rgb", 100)
    late = bench.synchronizer.add("depth", (START + 100) * MS, "too late", (START + 170) * MS)
    assert [(set(one.samples), one.emitted_ns) for one in late] == [({"rgb"}, (START + 170) * MS)]
    bench.add("depth", 80, now=170)
    bench.add("rgb", 150, now=170)
    bench.poll_until(300)
    assert (len(bench.sets), bench.dropped("depth")) == (1, {"late": 1, "unused": 1})


def test_a_dead_stream_costs_no_waiting_and_is_back_when_it_is_back() -> None:
    bench = Bench(CAMERA, DEPTH)
    waits = {}
    for stamp in range(0, 1500, 50):
        bench.add("rgb", stamp)
        if not 100 <= stamp < 1000:
            bench.add("depth", stamp, now=stamp + 5)
    bench.poll_until(2000)
    waits = {one.stamp_ns // MS - START: (one.emitted_ns - one.opened_ns) // MS for one in bench.sets}
    present = {one.stamp_ns // MS - START: "depth" in one.samples for one in bench.sets}
    assert len(bench.sets) == 30
    assert waits[50] == 5 and waits[100] == 50, "waited for while it may still be alive"
    assert all(waits[stamp] == 0 for stamp in range(400, 1000, 50)), "not waited for once it is dead"
    assert [stamp for stamp in present if not present[stamp]] == list(range(100, 1001, 50)), (
        "its first sample finds its set gone"
    )
    assert all(waits[stamp] == 5 for stamp in range(1050, 1500, 50))


def test_a_stream_never_seen_is_waited_for_until_its_timeout() -> None:
    bench = Bench(CAMERA, DEPTH, max_wait=200)
    bench.add("rgb", 0)
    bench.add("rgb", 50)
    bench.add("rgb", 290)
    bench.poll_until(1000)
    assert [(one.emitted_ns - one.opened_ns) // MS for one in bench.sets] == [200, 200, 10]


def test_a_silent_reference_is_replaced_by_ticks_until_it_is_back() -> None:
    bench = Bench(CAMERA, DEPTH)
    for stamp in range(0, 1000, 50):
        if not 200 <= stamp < 700:
            bench.add("rgb", stamp)
        bench.add("depth", stamp + 1)
    bench.poll_until(951)
    reasons = {stamp: one.reason for stamp, one in zip(bench.stamps(), bench.sets)}
    ticks = [stamp for stamp in reasons if reasons[stamp] == "tick"]
    assert ticks == list(range(200, 700, 50)), "those of the timeout at the reference's spacing, then multiples of tick"
    assert all("depth" in one.samples for one in bench.sets)
    assert [stamp for stamp in reasons if stamp not in ticks] == [*range(0, 200, 50), *range(700, 1000, 50)]


def test_a_reference_that_is_back_gets_the_samples_of_waiting_ticks() -> None:
    bench = Bench(CAMERA, DEPTH, replace(FORCE, timeout_ns=2000 * MS))
    bench.add("force", 0)
    bench.add("depth", 290)
    bench.add("depth", 345)
    bench.poll_until(351)
    bench.add("rgb", 340, now=351)
    bench.poll_until(440)
    assert bench.contents()[-1] == {"rgb": ["rgb@340"], "depth": ["depth@345"]}
    assert bench.stamps() == [300, 340]


def test_without_a_reference_ticks_open_the_sets_and_a_high_rate_stream_opens_none() -> None:
    bench = Bench(DEPTH, FORCE, reference=None)
    for stamp in range(1, 1000, 5):
        bench.add("force", stamp)
    bench.poll_until(1000)
    assert bench.stamps() == list(range(50, 1000, 50))
    assert {one.reason for one in bench.sets} == {"tick"}
    assert all(len(one.samples["force"]) == 4 for one in bench.sets)


def test_total_silence_stops_the_ticks_and_asks_for_no_polling() -> None:
    bench = Bench(DEPTH, FORCE, reference=None)
    bench.add("depth", 10)
    bench.poll_until(100_000)
    assert bench.synchronizer.next_deadline() is None
    assert bench.contents() == [{"depth": ["depth@10"]}] or bench.contents() == []
    assert not bench.synchronizer.alive("depth", (START + 311) * MS)
    assert bench.synchronizer.empty_ticks >= 5, "the ticks that found nothing while depth could still come back"


def test_ticks_follow_stamps_that_lie_far_behind_the_clock() -> None:
    bench = Bench(CAMERA, DEPTH)
    lag = 500_000
    for stamp in range(0, 1000, 50):
        if stamp < 500:
            bench.add("rgb", stamp, now=stamp + lag)
        bench.add("depth", stamp, now=stamp + lag)
    bench.add("rgb", 1000, now=1000 + lag)
    bench.add("depth", 1000, now=1000 + lag)
    assert {stamp for stamp in bench.stamps() if stamp > 800} >= {850, 900, 950, 1000}
    assert all("depth" in one.samples for one in bench.sets)


def test_a_sample_is_used_once_unless_it_is_held() -> None:
    bench = Bench(replace(CAMERA, period_ns=10 * MS), DEPTH, ACTION)
    bench.add("depth", 100)
    bench.add("action", 100)
    for stamp in (100, 110, 190, 210):
        bench.add("rgb", stamp)
    bench.poll_until(1000)
    assert [set(one.samples) for one in bench.sets] == [
        {"rgb", "depth", "action"},
        {"rgb", "action"},
        {"rgb", "action"},
        {"rgb"},
    ]
    counts = bench.synchronizer.counts["action"]
    assert (counts.received, counts.used, counts.sets) == (1, 1, 3)
