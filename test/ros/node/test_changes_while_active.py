"""Parameters that change while the node is active: applied at once, nothing lost, a bad value refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sensor_msgs.msg import Image

from ..robot import ALL, FusionProcess, Robot, fusion_and_robot, stamp_ns
from ..synchronizer.bench import ACTION, CAMERA, DEPTH, FORCE, MS, START, Bench


def changed(bench: Bench, *streams: object, now: float, max_wait: float = 50) -> list[set[str]]:
    """What leaves because of a change."""
    sets = bench.synchronizer.change(streams, int(max_wait * MS), int((START + now) * MS))
    bench.sets += sets
    return [set(one.samples) for one in sets]


def test_another_tolerance_is_in_force_at_once_and_for_samples_that_wait() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("depth", 70)
    bench.add("rgb", 100, 100)
    assert changed(bench, replace(DEPTH, tolerance_ns=35 * MS), now=101) == []
    bench.poll_until(200)
    assert bench.contents()[0] == {"rgb": ["rgb@100"], "depth": ["depth@70"]}
    assert bench.synchronizer.resets == 0


def test_a_shorter_wait_holds_for_the_next_reference() -> None:
    bench = Bench(CAMERA, DEPTH, max_wait=200)
    bench.add("rgb", 100)
    changed(bench, now=110, max_wait=10)
    bench.add("rgb", 150)
    bench.poll_until(159)
    assert bench.stamps() == []
    bench.poll_until(160)
    # The earlier one does not hold up the later one beyond its deadline.
    assert bench.stamps() == [100, 150]


def test_a_disabled_stream_lets_the_set_go_that_waited_for_it_and_its_samples_are_counted() -> None:
    bench = Bench(CAMERA, DEPTH)
    bench.add("depth", 60)
    bench.add("rgb", 100)
    assert changed(bench, replace(DEPTH, enabled=False), now=101) == [{"rgb"}]
    assert bench.dropped("depth") == {"disabled": 1}
    changed(bench, DEPTH, now=110)
    bench.add("depth", 150)
    bench.add("rgb", 150)
    assert bench.contents()[-1] == {"rgb": ["rgb@150"], "depth": ["depth@150"]}
    assert bench.synchronizer.counts["depth"].received == 2


def test_without_its_reference_sets_go_on_by_ticks_and_come_back_to_it() -> None:
    bench = Bench(CAMERA, ACTION)
    bench.add("rgb", 100)
    changed(bench, replace(CAMERA, enabled=False), now=101)
    bench.add("action", 120)
    bench.poll_until(200)
    assert {one.reason for one in bench.sets} == {"tick"}
    changed(bench, CAMERA, now=201)
    bench.add("action", 220)
    bench.add("rgb", 220)
    assert bench.sets[-1].stamp_ns == (START + 220) * MS
    assert set(bench.sets[-1].samples) == {"rgb", "action"}


@pytest.mark.parametrize(
    ("streams", "max_wait", "words"),
    [
        ((replace(DEPTH, name="smell"),), 50, "smell"),
        ((replace(FORCE, name="rgb"),), 50, "must not be windowed"),
        ((), -1, "max_wait_ns must be at least 0"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(streams: tuple, max_wait: float, words: str) -> None:
    bench = Bench(CAMERA, DEPTH)
    with pytest.raises(ValueError, match=words):
        changed(bench, replace(DEPTH, enabled=False), *streams, now=10, max_wait=max_wait)
    bench.add("depth", 100)
    bench.add("rgb", 100)
    assert set(bench.contents()[0]) == {"rgb", "depth"}


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """A node and a robot that sends everything."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as (robot, process):
        robot.sending = set(ALL)
        yield robot, process


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Robot:
    """The robot of the shared node, heard."""
    robot, _ = running
    robot.wait_for_set(*ALL)
    return robot


def received(robot: Robot) -> Callable[[], int]:
    """How many commands the node counts, by its newest status; a change that forgot its counts would lower it."""
    robot.status = None
    robot.wait(lambda: robot.status is not None and robot.status.modalities, "a status")
    return lambda: next(m.received for m in robot.status.modalities if m.name == "action")


def test_a_modality_is_taken_out_and_put_back_while_the_node_goes_on(robot: Robot) -> None:
    count = received(robot)
    before, epoch = count(), robot.status.epoch
    assert robot.set(streams__depth__enabled=False) == ""
    robot.wait_for_set("rgb", "force", "action")
    robot.wait(lambda: robot.listeners("depth/image") == 0, "the node to unsubscribe")
    assert robot.set(streams__depth__enabled=True) == ""
    robot.wait_for_set(*ALL)
    robot.wait(lambda: count() > before, "the counts to go on")
    assert robot.status.epoch == epoch, "nothing was forgotten"


def test_tolerance_and_wait_are_applied_at_once(robot: Robot) -> None:
    assert robot.set(max_wait=0.2, streams__force__tolerance=0.04) == ""
    assert (robot.get("max_wait"), robot.get("streams.force.tolerance")) == (0.2, 0.04)
    robot.wait_for_set(*ALL)
    # A command is held for 0.1 s, which its tolerance may not exceed.
    assert "hold_ns" in robot.set(streams__action__tolerance=0.5)
    assert "range" in robot.set(streams__rgb__prediction_rate=-1.0)
    assert "not active" in robot.set(streams__rgb__timeout=1.0)
    assert "unconfigured" in robot.set(streams__rgb__message="sensor_msgs/msg/Image")
    assert robot.get("streams.action.tolerance") == 0.025
    robot.wait_for_set(*ALL)


def test_predictions_come_no_oftener_than_their_rate(robot: Robot) -> None:
    rgb, depth = robot.listen("predicted/rgb", Image), robot.listen("predicted/depth", Image)
    robot.wait(lambda: len(rgb) > 10 and len(depth) > 10, "predictions of every set")
    assert robot.set(streams__rgb__prediction_rate=2.0) == ""
    rgb.clear()
    depth.clear()
    robot.wait(lambda: len(rgb) >= 6, "predictions at the lower rate")
    stamps = [stamp_ns(message) for message in rgb[1:]]
    # Two per second, so four spacings take two seconds; the latency of a set may differ.
    assert stamps[-1] - stamps[0] > 1_500_000_000
    assert len(depth) > 2 * len(rgb), "the others are not held back"
    assert robot.set(streams__rgb__prediction_rate=0.0) == ""
    rgb.clear()
    depth.clear()
    robot.wait(lambda: len(rgb) > 20, "predictions of every set again")
    assert len(depth) < 2 * len(rgb)
