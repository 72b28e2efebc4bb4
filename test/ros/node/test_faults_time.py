"""Stamps that lie and clocks that jump: what is published and counted, and that the node recovers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from ..robot import ALL, FusionProcess, Robot, fusion_and_robot, serialized_wrenches, stamp_ns

MS = 1_000_000
HOUR = 3_600_000 * MS
LONG_AGO = 1_500_000_000_000 * MS


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """One node for all, and a robot."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as both:
        yield both


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Iterator[Robot]:
    """The robot, sending everything with honest stamps, to a node that has counted nothing yet."""
    robot, _ = running
    robot.sending = set()
    robot.restart()
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    yield robot
    robot.stamping.clear()
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)


def counted(robot: Robot, name: str, reason: str) -> None:
    """Wait until drops for a reason are counted."""
    robot.wait(lambda: robot.dropped(name).get(reason, 0) > 5, f"{name} to be dropped as {reason}")


def every_other_twice() -> Callable[[int], list[int]]:
    """Stamps of a driver that gives each second message the stamp of the one before."""
    stamps: list[int] = []

    def stamp(moment: int) -> list[int]:
        stamps.append(stamps[-1] if len(stamps) % 2 else moment)
        return stamps[-1:]

    return stamp


@pytest.mark.parametrize("name", ["depth", "action"])
def test_what_comes_later_than_the_longest_wait_is_left_out_and_counted(robot: Robot, name: str) -> None:
    robot.stamping[name] = lambda moment: [moment - 200 * MS]
    robot.wait_for_set(*(set(ALL) - {name}))
    counted(robot, name, "late")
    robot.wait(lambda: not robot.modality(name).alive, "nothing to wait for samples that no set can use")
    stamps = [stamp_ns(latent) for latent in robot.wait_for_new_latents(10)]
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(robot.sent_ns)


@pytest.mark.parametrize("name", ALL)
def test_a_sensor_that_repeats_one_stamp_costs_itself_alone_and_is_named(robot: Robot, name: str) -> None:
    frozen = robot.sent_ns[-1]
    robot.stamping[name] = lambda moment: [frozen]
    others = set(ALL) - {name}
    robot.wait_for_set(*others)
    counted(robot, name, "duplicate")
    robot.wait(lambda: not robot.modality(name).alive, f"{name} to count as dead")
    sets = robot.new_status().sets
    robot.wait(lambda: robot.new_status().sets > sets + 30, "two more seconds of sets")
    assert all(name not in latent.modalities for latent in robot.wait_for_new_latents(10))
    robot.wait(lambda: "stamps repeat" in told(robot, name)[1], "diagnostics to say so")
    assert told(robot, name)[0] == DiagnosticStatus.ERROR
    assert robot.status.epoch == 0


def test_forces_later_than_the_longest_wait_are_left_out(robot: Robot) -> None:
    robot.stamping["force"] = lambda moment: [moment - 200 * MS]
    robot.wait_for_set("rgb", "depth", "action")
    counted(robot, "force", "unused")


def test_a_late_reference_still_opens_sets_with_what_belongs_to_it(robot: Robot) -> None:
    robot.stamping["rgb"] = lambda moment: [moment - 100 * MS]
    robot.wait(lambda: robot.new_status().sets > 40, "two more seconds of sets")
    robot.wait_for_new_latents(10)
    # Where the robot of the test pauses, a tick fills the gap.
    stamps = [stamp_ns(latent) for latent in robot.latents if "rgb" in latent.modalities]
    assert stamps == sorted(set(stamps)) and {stamp + 100 * MS for stamp in stamps} <= set(robot.sent_ns)
    assert robot.status.epoch == 0


@pytest.mark.parametrize("name", ALL)
def test_a_stamp_given_twice_counts_once(robot: Robot, name: str) -> None:
    robot.stamping[name] = every_other_twice()
    counted(robot, name, "duplicate")
    robot.wait_for_set(*ALL)
    stamps = [stamp_ns(latent) for latent in robot.wait_for_new_latents(10)]
    assert stamps == sorted(set(stamps))


# Not force: the test's robot sends it in bursts after the image, so that its time of arrival puts it into the next set.
@pytest.mark.parametrize("name", ["rgb", "depth", "action"])
def test_a_message_without_a_stamp_is_taken_as_of_its_arrival_and_counted(robot: Robot, name: str) -> None:
    robot.stamping[name] = lambda moment: [0]
    robot.wait(lambda: robot.modality(name).zero_stamp > 20, "messages without a stamp to be counted")
    robot.wait_for_set(*ALL)
    robot.wait_for_new_latents(10)
    newest_ns = max(robot.sent_ns)
    assert all(abs(stamp_ns(latent) - newest_ns) < HOUR for latent in robot.latents)
    assert robot.modality(name).alive


def test_a_kilohertz_sensor_without_stamps_is_in_every_set(robot: Robot) -> None:
    robot.sending = set(ALL) - {"force"}
    wrenches = serialized_wrenches(*robot.force)

    def send() -> None:
        for wrench in wrenches[:10]:
            robot.publisher("wrench").publish(wrench[:4] + bytes(8) + wrench[12:])

    timer = robot.node.create_timer(0.01, send)
    robot.wait(lambda: robot.modality("force").zero_stamp > 100, "messages without a stamp to be counted")
    robot.wait_for_set(*ALL)
    robot.wait(lambda: robot.new_status() and robot.modality("force").share > 0.9, "force in every set")
    assert "duplicate" not in robot.dropped("force")
    robot.node.destroy_timer(timer)


@pytest.mark.parametrize("name", ALL)
def test_a_stamp_from_the_future_is_dropped_and_counted(robot: Robot, name: str) -> None:
    robot.stamping[name] = lambda moment: [moment + HOUR]
    robot.wait_for_set(*(set(ALL) - {name}))
    counted(robot, name, "future")
    assert max(stamp_ns(latent) for latent in robot.latents) < max(robot.sent_ns) + HOUR // 2


def told(robot: Robot, name: str) -> tuple[bytes, str]:
    """Level and summary that diagnostics give a modality from now on."""
    robot.diagnostics.clear()
    robot.wait(lambda: f"fusion: {name}" in robot.diagnostics, f"diagnostics of {name}")
    status = robot.diagnostics[f"fusion: {name}"]
    return status.level, status.message


@pytest.mark.parametrize("name", ["rgb", "force"])
@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        (lambda moment: [moment % (1000 * HOUR)], "seem to count from the start of the machine"),
        (lambda moment: [moment - HOUR], "behind the node's clock"),
        (lambda moment: [moment + HOUR], "ahead of the node's clock"),
        (lambda moment: [0], "messages have no stamp"),
    ],
    ids=["since boot", "behind", "ahead", "none"],
)
def test_a_sensor_whose_clock_is_not_the_nodes_is_named_in_the_log_just_once(
    robot: Robot,
    running: tuple[Robot, FusionProcess],
    name: str,
    stamp: Callable[[int], list[int]],
    words: str,
) -> None:
    before = len(running[1].output())
    robot.stamping[name] = stamp

    def warnings() -> list[str]:
        return [line for line in running[1].output()[before:].splitlines() if "[WARN]" in line]

    robot.wait(lambda: any(words in line for line in warnings()), f"a warning of stamps {words}")
    robot.new_status(), robot.new_status()
    told_of = [line for line in warnings() if words in line]
    assert len(told_of) == 1
    assert {"rgb": "/rgb/image: ", "force": "/wrench: "}[name] in told_of[0]


def test_stamps_of_another_clock_give_no_latency(robot: Robot, running: tuple[Robot, FusionProcess]) -> None:
    robot.sending = set()
    robot.restart()
    robot.stamping = {name: lambda moment: [moment % (1000 * HOUR)] for name in ALL}
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    robot.wait_for_new_latents(10)
    robot.stamping.clear()
    robot.wait_for_set(*ALL)
    status = (robot.new_status(), robot.new_status())[1]
    assert 0.0 <= status.latency_p50 <= status.latency_p99 < 60.0
    told(robot, "fusion")
    times = {
        value.key: float(value.value) for value in robot.diagnostics["fusion: fusion"].values if "(ms)" in value.key
    }
    assert len(times) >= 6 and all(0.0 <= milliseconds < 60_000.0 for milliseconds in times.values())


def test_diagnostics_say_that_nothing_comes_of_a_sensor_with_another_clock(robot: Robot) -> None:
    robot.stamping["depth"] = lambda moment: [moment - 200 * MS]
    robot.wait(lambda: told(robot, "depth")[0] == DiagnosticStatus.ERROR, "depth to be an error")
    assert "ms after their stamps" in told(robot, "depth")[1] and "max_wait" in told(robot, "depth")[1]
    robot.stamping["depth"] = lambda moment: [moment + HOUR]
    robot.wait(lambda: "ahead" in told(robot, "depth")[1], "another reason")
    assert told(robot, "rgb")[0] == DiagnosticStatus.OK
    robot.stamping.clear()
    robot.wait(lambda: told(robot, "depth")[0] == DiagnosticStatus.OK, "depth to be well again")


def test_samples_out_of_order_are_put_in_place(robot: Robot) -> None:
    # The 50 wrenches of a moment newest first, and each command before the one that it follows.
    robot.stamping["force"] = lambda stamp: [2 * robot.sent_ns[-1] - 49 * MS - stamp]
    robot.stamping["action"] = lambda moment: [moment, moment - 10 * MS]
    robot.wait_for_set(*ALL)
    robot.latents.clear()
    robot.wait(lambda: sum(set(one.modalities) == set(ALL) for one in robot.latents) >= 20, "20 sets of all four")
    stamps = [stamp_ns(latent) for latent in robot.latents]
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(robot.sent_ns)
    assert robot.new_status().epoch == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_references_out_of_order_never_turn_the_sets_around(robot: Robot, ordered: bool) -> None:
    robot.sending = set()
    robot.restart(streams__rgb__ordered=ordered)
    robot.stamping["rgb"] = lambda moment: [moment, moment - 25 * MS]
    robot.sending = set(ALL)
    robot.wait(lambda: robot.modality("rgb").received > 40, "two seconds of images")
    stamps = [stamp_ns(latent) for latent in robot.wait_for_new_latents(20)]
    assert stamps == sorted(set(stamps))
    assert robot.status.epoch == 0
    robot.restart(streams__rgb__ordered=True)


def test_a_bag_that_loops_begins_a_new_epoch_each_time(running: tuple[Robot, FusionProcess], robot: Robot) -> None:
    _, process = running
    robot.sending = set()
    robot.restart()
    before = process.output().count("time went back")
    start = robot.node.get_clock().now().nanoseconds
    # A bag of 2 s, recorded long ago, played again and again.
    passes = {name: (lambda moment: [LONG_AGO + (moment - start) % (2000 * MS)]) for name in ALL}
    robot.stamping = passes
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    robot.wait(lambda: robot.status.epoch >= 2, "two new epochs")
    warnings = process.output().count("time went back") - before
    assert 2 <= warnings <= robot.new_status().epoch, "one warning an epoch"
    latent = robot.wait_for_set(*ALL)
    assert LONG_AGO <= stamp_ns(latent) <= LONG_AGO + 2000 * MS
    stamps = [stamp_ns(one) for one in robot.latents]
    turns = sum(later <= earlier for earlier, later in zip(stamps, stamps[1:]))
    assert turns <= 1 and len(stamps) == len(set(stamps))


def test_a_sensor_that_says_long_ago_now_and_then_costs_only_itself(
    running: tuple[Robot, FusionProcess], robot: Robot
) -> None:
    _, process = running
    before, epoch = process.output().count("time went back"), robot.new_status().epoch
    robot.stamping["depth"] = lambda moment: [LONG_AGO if (moment // (50 * MS)) % 4 == 0 else moment]
    counted(robot, "depth", "late")
    robot.wait_for_set(*ALL)
    robot.wait_for_new_latents(20)
    assert robot.new_status().epoch == epoch
    assert process.output().count("time went back") == before


@pytest.mark.parametrize(
    ("name", "off", "words"),
    [
        ("rgb", -HOUR, "messages come after their sets, up to 1.0 h after their stamps"),
        ("depth", -150 * MS, "messages come after their sets, up to"),
        ("action", HOUR, "ahead of the node's clock: the driver's stamps jump"),
    ],
)
def test_stamps_that_jump_are_named_once_and_cost_themselves_alone(
    robot: Robot, running: tuple[Robot, FusionProcess], name: str, off: int, words: str
) -> None:
    before = len(running[1].output())
    robot.stamping[name] = lambda moment: [moment + off * (robot.sent[name] % 2)]
    robot.wait(lambda: words in told(robot, name)[1], "diagnostics to say so")
    assert told(robot, name)[0] == DiagnosticStatus.WARN
    robot.wait_for_set(*ALL)
    warnings = [line for line in running[1].output()[before:].splitlines() if "[WARN]" in line]
    assert len(warnings) == 1 and words in warnings[0], warnings


def test_simulated_time_that_is_set_while_active_begins_a_new_epoch_and_spoils_no_latency(
    robot: Robot, running: tuple[Robot, FusionProcess]
) -> None:
    assert robot.set(use_sim_time=True) == ""
    robot.clock(start_s=1000.0)
    robot.wait(lambda: robot.latents and stamp_ns(robot.latents[-1]) < HOUR, "latents of simulated time")
    robot.wait_for_set(*ALL)
    assert "use_sim_time: the node's clock is now simulated time" in running[1].output()
    status = (robot.new_status(), robot.new_status())[1]
    assert 0.0 <= status.latency_p50 <= status.latency_p99 < 60.0
    assert all(0.0 <= modality.age < 60.0 for modality in status.modalities)
    # A stamp may lie up to 1 s ahead in simulated time, as if the node had been started with it.
    before = robot.dropped("depth").get("future", 0)
    robot.stamping["depth"] = lambda moment: [moment + 500 * MS]
    robot.new_status(), robot.new_status()
    assert robot.dropped("depth").get("future", 0) == before
    robot.stamping.clear()
    assert robot.set(use_sim_time=False) == ""
    robot.real_time()
    robot.wait(lambda: robot.latents and stamp_ns(robot.latents[-1]) > LONG_AGO, "latents of real time")
    robot.wait_for_set(*ALL)
    status = (robot.new_status(), robot.new_status())[1]
    assert 0.0 <= status.latency_p50 <= status.latency_p99 < 60.0
    assert all(0.0 <= modality.age < 60.0 for modality in status.modalities)
