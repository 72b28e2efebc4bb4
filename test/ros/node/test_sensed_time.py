"""The time by which messages arrive: the node's clock, or the stamps of the sensors while `/clock` stands still."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.clock import ROSClock

from smvae_ros.node import sensed_time
from smvae_ros.node.sensed_time import SensedTime

S = 1_000_000_000
START = 1000 * S


class Bench:
    """A simulated clock, sensors and the computer's steady time, all moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, simulated: bool = True) -> None:
        self.clock_ns, self.steady_s = START, 50.0
        monkeypatch.setattr(sensed_time, "monotonic", lambda: self.steady_s)
        monkeypatch.setattr(sensed_time, "time_ns", lambda: self.clock_ns)
        clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.clock_ns))
        self.time = SensedTime(clock, simulated=simulated)

    def play(self, stamps: dict[str, float], seconds: float, *, clock: bool = False, rate: float = 1.0) -> list[float]:
        """Send messages every 50 ms, `stamps` seconds off; return by how much the time went on, for each message."""
        begin_ns, found = self.clock_ns, []
        for step in range(1, round(seconds * 20) + 1):
            self.steady_s += 0.05
            moment_ns = begin_ns + round(step * 0.05 * rate * S)
            if clock:
                self.clock_ns = moment_ns
            for name, off in stamps.items():
                now_ns = self.time.see(name, moment_ns + round(off * S), self.time.arrive())
                found.append((now_ns - begin_ns) / S)
        return found


SENSORS = {"rgb": -0.03, "depth": -0.02, "force": 0.0, "action": 0.0}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench in simulated time."""
    return Bench(monkeypatch)


def test_a_clock_that_moves_is_the_time_whatever_the_stamps_say(bench: Bench) -> None:
    found = bench.play(SENSORS | {"rgb": 86_400.0}, 5, clock=True)
    assert found == pytest.approx([0.05 * (1 + number // 4) for number in range(400)])
    assert bench.time.sensed_ns == 0


def test_while_the_clock_stands_still_the_stamps_of_most_sensors_are_the_time(bench: Bench) -> None:
    found = bench.play(SENSORS, 5)
    assert found == sorted(found), "it never goes back"
    assert found[-1] == pytest.approx(5.0, abs=0.05)
    assert bench.time.now_ns() == bench.time.sensed_ns
    assert bench.time.arrive() == bench.time.sensed_ns


@pytest.mark.parametrize("off", [60.0, -60.0])
def test_one_sensor_with_other_stamps_does_not_change_it(bench: Bench, off: float) -> None:
    assert bench.play(SENSORS | {"rgb": off}, 5)[-1] == pytest.approx(5.0, abs=0.06)


def test_a_paused_simulation_stops_the_time(bench: Bench) -> None:
    assert set(bench.play(SENSORS, 5, rate=0.0)) == {0.0}


def test_a_driver_beside_a_paused_simulation_that_stamps_with_the_computers_time_does_not_drive_it(
    bench: Bench,
) -> None:
    assert set(bench.play({"rgb": 1.7e9}, 5)) == {0.0}


def test_without_any_time_on_the_clock_the_stamps_are_the_time(bench: Bench) -> None:
    bench.clock_ns = 0
    assert bench.play({name: 1.7e9 for name in SENSORS}, 3)[-1] == pytest.approx(1.7e9 + 3.0, abs=0.05)


@pytest.mark.parametrize("rate", [0.2, 1.0, 20.0])
def test_between_two_moments_the_time_by_stamps_goes_on_evenly_for_a_tenth_of_a_second_at_most(
    bench: Bench, rate: float
) -> None:
    bench.play(SENSORS, 6, rate=rate)
    step_ns, begin_ns = 0.05 * rate * S, bench.time.sensed_ns
    for part in (0.25, 0.5, 0.75):
        bench.steady_s += 0.25 * 0.05
        assert bench.time.arrive() - begin_ns == pytest.approx(part * step_ns, rel=0.01)
    bench.steady_s += 10.0
    assert bench.time.sensed_ns - begin_ns == pytest.approx(2 * step_ns, rel=0.01), "the sensors pause as well"


@given(jitter=st.lists(st.integers(-40, 40), min_size=30, max_size=60))
def test_whatever_the_arrivals_the_time_never_goes_back_nor_runs_far_ahead_of_the_stamps(
    jitter: list[int],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(monkeypatch)
        bench.play(SENSORS, 2)
        told, stamp_ns = [bench.time.sensed_ns], bench.time.sensed_ns
        for late_ms in jitter:
            bench.steady_s += 0.05 + late_ms / 1000
            stamp_ns += 50_000_000
            for name in SENSORS:
                told.append(bench.time.see(name, stamp_ns, bench.time.arrive()))
            assert 0 <= told[-1] - stamp_ns <= 200_000_000
        assert told == sorted(told)


def test_it_tells_for_how_long_the_clock_stands_still(bench: Bench) -> None:
    bench.play(SENSORS, 3, clock=True)
    assert bench.time.stands_s() == 0.0
    bench.play(SENSORS, 3)
    assert bench.time.stands_s() == pytest.approx(3.0)


def test_a_clock_that_comes_back_is_the_time_at_once(bench: Bench) -> None:
    bench.play(SENSORS, 5)
    bench.clock_ns += 2 * S
    assert bench.time.arrive() == bench.clock_ns
    assert bench.time.sensed_ns == 0


def test_a_coarse_or_slow_clock_does_not_stand_still(bench: Bench) -> None:
    for _ in range(5):
        assert set(bench.play(SENSORS, 1.5, rate=0.3)) == {0.0}
        bench.clock_ns += round(0.45 * S)


def test_real_time_is_the_computers(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, simulated=False)
    assert set(bench.play(SENSORS, 5)) == {0.0}


def test_the_computers_time_is_that_of_a_nodes_clock_without_simulation() -> None:
    time, clock = SensedTime(ROSClock(), simulated=False), ROSClock()
    before, between, after = time.now_ns(), clock.now().nanoseconds, time.arrive()
    assert before <= between <= after
