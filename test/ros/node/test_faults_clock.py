"""Simulated time that jumps, comes late, is coarse or stands still, each with a node of its own."""

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from ..robot import ALL, fusion_and_robot, stamp_ns
from ..simulated_clock import SimulatedClock
from .test_faults_time import MS, told


def test_simulated_time_that_is_reset_and_leaps_ahead(checkpoint: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with fusion_and_robot(log, {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        clock = robot.clock(start_s=1000.0)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        epoch = robot.new_status().epoch
        clock.start_s = 5.0
        # Two, where messages with the new time overtake the clock.
        robot.wait(lambda: robot.status.epoch > epoch, "the next epoch")
        robot.wait_for_new_latents(20)
        latent = robot.wait_for_set(*ALL)
        assert 5.0 <= stamp_ns(latent) / 1e9 < 500.0
        epoch = robot.new_status().epoch
        clock.start_s = 2000.0
        robot.latents.clear()
        robot.wait(lambda: any(stamp_ns(one) > 2000e9 for one in robot.latents), "latents after a leap ahead")
        robot.wait_for_set(*ALL)
        assert robot.new_status().epoch == epoch, "a leap ahead is no restart"
        assert process.alive


def test_in_simulated_time_stamps_may_be_ahead_of_a_clock_that_comes_late(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, _):
        clock = robot.clock(start_s=1000.0)
        robot.wait_for_state("active")
        ahead_ns = clock.now_ns + 600 * MS
        robot.send(["rgb"], ahead_ns)
        robot.wait(lambda: ahead_ns in map(stamp_ns, robot.latents), "the set of the stamp ahead")


@pytest.mark.parametrize("paused", [False, True], ids=["goes on", "pauses"])
def test_a_clock_that_stands_still_is_named_once_and_no_sensor_is_blamed(
    checkpoint: Path, tmp_path: Path, paused: bool
) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        clock = robot.clock(start_s=1000.0)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        stopped_ns = clock.now_ns
        clock.every = 1_000_000
        if paused:
            robot.stamping = {name: lambda moment: [stopped_ns] for name in ALL}
        robot.wait(lambda: "time stands still" in process.output(), "a warning")
        # Stamps that stand still, too, bring no time; those that go on do, so that sets go out by it.
        assert all("time stands still" in told(robot, name)[1] for name in ("fusion", "rgb"))
        assert ("do not go on" in told(robot, "fusion")[1]) is paused
        clock.every = 1
        robot.stamping.clear()
        robot.wait_for_set(*ALL)
        robot.wait(lambda: told(robot, "fusion")[0] == DiagnosticStatus.OK, "all to be well")
        warnings = [line for line in process.output().splitlines() if "[WARN]" in line and "/clock" in line]
        assert len(warnings) == 1 and "stamps are" not in process.output()


def test_sets_go_on_by_the_stamps_of_the_sensors_while_the_clock_stands_still(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        clock = robot.clock(start_s=1000.0)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        epoch, stopped_ns = robot.new_status().epoch, clock.now_ns
        clock.every = 1_000_000
        robot.wait(lambda: stamp_ns(robot.latents[-1]) > stopped_ns + 2000 * MS, "latents beyond the clock")
        begin = robot.sent_ns[-1]
        robot.wait_for_new_latents(40)
        sent = [moment for moment in robot.sent_ns if begin < moment < stamp_ns(robot.latents[-1])]
        have = {stamp_ns(latent): set(latent.modalities) for latent in robot.latents}
        for name in ("rgb", "depth"):
            assert sum(name in have.get(moment, ()) for moment in sent) >= 0.9 * len(sent), name
        assert 0.0 <= robot.new_status().latency_p99 < 60.0
        # A camera dies meanwhile: the others go on, with ticks.
        robot.sending = {"depth", "force", "action"}
        robot.wait_for_set("depth", "force", "action")
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        clock.every = 1
        robot.wait(lambda: told(robot, "fusion")[0] == DiagnosticStatus.OK, "all to be well")
        assert robot.new_status().epoch == epoch and "time went back" not in process.output()


def test_without_a_clock_the_stamps_of_the_sensors_stand_in_for_it(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        robot.wait(lambda: "no time has come on /clock" in process.output(), "a warning")
        assert "no time has come on /clock" in told(robot, "fusion")[1]


def test_a_coarse_clock_gives_no_negative_latency(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, _):
        clock = robot.clock(start_s=1000.0)
        clock.every = 30
        robot.stamping = {name: (lambda moment: [moment + 200 * MS]) for name in ALL}
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        robot.wait_for_new_latents(20)
        assert robot.new_status().latency_p50 >= 0.0


def test_times_of_the_clock_that_overtake_one_another_begin_no_epoch(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        clock = robot.clock(start_s=1000.0)
        other = robot.node.create_publisher(Clock, "/clock", 1)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        late = robot.node.create_timer(
            0.1, lambda: other.publish(Clock(clock=Time(nanoseconds=clock.now_ns - 20 * MS).to_msg()))
        )
        robot.latents.clear()
        robot.wait_for_new_latents(40)
        robot.node.destroy_timer(late)
        assert robot.new_status().epoch == 0 and "time goes back" not in process.output()


def test_how_far_the_clock_may_go_back_follows_the_longest_wait(checkpoint: Path, tmp_path: Path) -> None:
    parameters = {"checkpoint": checkpoint, "use_sim_time": True, "max_wait": 0.1}
    with fusion_and_robot(tmp_path / "log", parameters) as (robot, _):
        clock = robot.clock(start_s=1000.0)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        assert not robot.set(max_wait=1.0)
        clock.start_s = clock.now_ns / 1e9 - 0.5
        robot.latents.clear()
        robot.wait_for_new_latents(40)
        assert robot.new_status().epoch == 0
        assert not robot.set(max_wait=0.1)
        clock.start_s = clock.now_ns / 1e9 - 0.5
        robot.wait(lambda: robot.new_status().epoch == 1, "a new epoch")
        robot.wait_for_set(*ALL)


def test_two_publishers_of_the_clock_are_named_and_no_sensor_is_blamed(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint, "use_sim_time": True}) as (robot, process):
        robot.clock(start_s=1000.0)
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        other = robot.join("other_simulator")
        SimulatedClock(other, 5000.0)
        words = "several publish on /clock (/other_simulator, /robot)"
        robot.wait(lambda: words in told(robot, "fusion")[1], "diagnostics to name both")
        robot.wait(lambda: words in told(robot, "rgb")[1], "the modalities' diagnostics, too")
        other.destroy_node()
        robot.wait_for_set(*ALL)
        robot.wait(lambda: told(robot, "fusion")[0] == DiagnosticStatus.OK, "all to be well")
        assert words in process.output() and "stamps jump" not in process.output()
