"""The fusion node as a robot meets it: a process of its own, real topics, services and signals."""

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from ..robot import ALL, FRAMES, FusionProcess, Robot, fusion_and_robot, fusion_starter, own_domain, stamp_ns


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """A node that was just started, and a robot; shared by the tests that leave it as it was."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as both:
        yield both


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Robot:
    """The robot of the shared node, sending everything, and heard."""
    robot, _ = running
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    return robot


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Robot, FusionProcess]]]:
    """Starts a node of the test's own."""
    with fusion_starter(tmp_path / "log") as begin:
        yield begin


def test_all_four_modalities_give_a_latent_with_the_stamp_and_frame_of_the_reference(robot: Robot) -> None:
    latent = robot.wait_for_set(*ALL)
    assert stamp_ns(latent) in robot.sent_ns
    assert latent.header.frame_id == FRAMES["rgb"]
    assert len(latent.mean) == len(latent.log_variance) == 64
    assert np.isfinite([*latent.mean, *latent.log_variance]).all()
    assert len(latent.attention) == 4
    assert sum(latent.attention) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    "modalities",
    [("depth", "force", "action"), ("rgb", "force", "action"), ("force", "action"), ("rgb",), ("depth",), ("force",)],
    ids="+".join,
)
def test_dead_modalities_are_left_out_and_come_back(robot: Robot, modalities: tuple[str, ...]) -> None:
    robot.sending = set(modalities)
    robot.wait_for_set(*modalities)
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)


def test_a_prediction_carries_the_stamp_of_its_set_and_the_frame_of_its_sensor(robot: Robot) -> None:
    heard = {
        "rgb": robot.listen("predicted/rgb", Image),
        "depth": robot.listen("predicted/depth", Image),
        "force": robot.listen("predicted/wrench", WrenchStamped),
        "action": robot.listen("predicted/action", TwistStamped),
    }
    robot.sending = {"force", "action"}
    robot.wait_for_set("force", "action")
    for messages in heard.values():
        messages.clear()
    robot.wait(lambda: all(len(messages) >= 3 for messages in heard.values()), "three predictions of each modality")
    robot.wait(
        lambda: stamp_ns(robot.latents[-1]) > max(stamp_ns(m[2]) for m in heard.values()), "the latents of these sets"
    )
    latents = {stamp_ns(latent) for latent in robot.latents}
    for name, messages in heard.items():
        assert {stamp_ns(message) for message in messages[:3]} <= latents
        assert messages[0].header.frame_id == FRAMES[name]
    rgb, depth = heard["rgb"][0], heard["depth"][0]
    assert (rgb.encoding, rgb.height, rgb.width, len(rgb.data)) == ("rgb8", 64, 64, 64 * 64 * 3)
    assert (depth.encoding, depth.height, depth.width, len(depth.data)) == ("32FC1", 64, 64, 64 * 64 * 4)
    metres = np.frombuffer(depth.data, np.float32)
    assert (metres >= 0.0).all() and (metres <= 2.0).all()


def test_status_and_diagnostics_tell_of_each_modality(robot: Robot) -> None:
    robot.sending = {"rgb", "force", "action"}
    robot.wait_for_set("rgb", "force", "action")
    # What was said before may speak of depth as it was before.
    robot.diagnostics.clear()

    def level(name: str) -> bytes | None:
        return robot.diagnostics[f"fusion: {name}"].level if f"fusion: {name}" in robot.diagnostics else None

    robot.wait(lambda: level("depth") == DiagnosticStatus.STALE, "depth to be stale")
    robot.wait(
        lambda: level("rgb") == level("force") == level("fusion") == DiagnosticStatus.OK, "the others to be well"
    )
    robot.wait_for_state("active")
    status = robot.new_status()
    assert not next(m for m in status.modalities if m.name == "depth").alive
    assert status.state == "active"
    assert status.device in ("cpu", "cuda")
    assert 0 < status.published <= status.sets
    assert 0.0 < status.latency_p50 <= status.latency_p99
    force = next(m for m in status.modalities if m.name == "force")
    assert force.alive and force.rate > 100.0 and force.received > force.used > 0


def test_reset_begins_a_new_epoch_and_fusion_goes_on(robot: Robot) -> None:
    epoch = robot.new_status().epoch
    assert robot.reset().success
    robot.wait(lambda: robot.status.epoch == epoch + 1, "the next epoch")
    robot.wait_for_set(*ALL)


def test_a_bad_parameter_is_refused_with_the_reason_and_the_old_value_stays(robot: Robot) -> None:
    assert "read-only" in robot.set(autostart=False)
    assert "device" in robot.set(device="cpu")
    assert "range" in robot.set(max_wait=-1.0)
    assert "type" in robot.set(max_wait="long").lower()
    assert "not active" in robot.set(streams__force__least=16)
    assert robot.get("autostart") is True
    assert robot.get("device") == "auto"
    assert robot.get("max_wait") == 0.05
    assert robot.get("streams.force.least") == 32


def test_nothing_is_decoded_for_a_topic_that_nobody_listens_to(start: Callable, checkpoint: Path) -> None:
    robot, _ = start(checkpoint=checkpoint)

    def decoded(name: str) -> int:
        values = {pair.key: pair.value for pair in robot.diagnostics[f"fusion: {name}"].values}
        return int(values["predictions"])

    robot.sending = set(ALL)
    robot.wait_for_new_latents(20)
    robot.diagnostics.clear()
    robot.wait(lambda: len(robot.diagnostics) == 5, "diagnostics of the node and each modality")
    assert [decoded(name) for name in ALL] == [0, 0, 0, 0]
    robot.listen("predicted/depth", Image)
    robot.wait(lambda: decoded("depth") > 5, "depth to be decoded")
    assert [decoded(name) for name in ("rgb", "force", "action")] == [0, 0, 0]


def test_a_damaged_checkpoint_is_named_and_a_later_configure_takes_a_good_one(
    start: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:1000])
    robot, process = start(checkpoint=damaged)
    robot.wait_for_state("unconfigured")
    assert str(damaged) in process.output()
    assert "Traceback" not in process.output()
    robot.wait(lambda: "fusion: fusion" in robot.diagnostics, "diagnostics")
    assert robot.diagnostics["fusion: fusion"].level == DiagnosticStatus.ERROR
    missing = tmp_path / "missing.safetensors"
    assert robot.set(checkpoint=str(missing)) == ""
    assert not robot.change("configure")
    assert robot.state() == "unconfigured"
    assert str(missing) in process.output()
    assert robot.set(checkpoint=str(checkpoint)) == ""
    assert robot.change("configure")
    assert robot.change("activate")
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)


def test_every_transition_of_the_lifecycle(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint, autostart=False)
    assert robot.state() == "unconfigured"
    assert robot.change("configure")
    assert robot.state() == "inactive"
    assert not robot.reset().success
    assert robot.listeners("rgb/image") == 0
    assert "depth" in robot.set(streams__force__depth=8), "a window of 32 needs a depth of 32"
    assert robot.set(streams__rgb__enabled=False) == ""
    assert robot.change("activate")
    assert robot.state() == "active"
    robot.wait(lambda: robot.listeners("depth/image") == 1, "the node to subscribe")
    assert robot.listeners("rgb/image") == 0, "a disabled modality is not subscribed to"
    robot.sending = set(ALL)
    robot.wait_for_set("depth", "force", "action")
    assert robot.change("deactivate")
    assert robot.state() == "inactive"
    robot.wait(lambda: robot.listeners("depth/image") == 0, "the node to unsubscribe")
    assert robot.set(streams__rgb__enabled=True) == ""
    assert robot.change("activate")
    robot.wait_for_set(*ALL)
    assert robot.change("deactivate")
    assert robot.change("cleanup")
    assert robot.state() == "unconfigured"
    assert robot.change("configure")
    assert robot.change("activate")
    robot.wait_for_set(*ALL)
    assert robot.change("shutdown")
    assert robot.state() == "finalized"
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_busy_node_with_exit_code_0_and_a_closing_summary(
    start: Callable, checkpoint: Path, number: signal.Signals
) -> None:
    robot, process = start(checkpoint=checkpoint)
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    before = process.output()
    assert process.end(number) == 0
    last_words = process.output()[len(before) :].splitlines()
    assert len(last_words) == 1
    assert re.search(
        r"closing summary: \d+ latents of \d+ sets: rgb in \d+%, .*; latency p50 \d+ ms, p99", last_words[0]
    )


def test_a_signal_while_the_model_is_loaded_ends_the_node_before_it_is_active(checkpoint: Path, tmp_path: Path) -> None:
    with own_domain():
        process = FusionProcess(tmp_path / "log", {"checkpoint": checkpoint}, popen=subprocess.Popen)
        try:
            process.wait_for_handlers()
            assert process.end(signal.SIGTERM) == 0
        finally:
            process.kill()
    last_words = [line for line in process.output().splitlines() if "[fusion]" in line]
    assert len(last_words) == 1 and "closing summary" in last_words[0]


def test_sets_that_nobody_listens_for_are_not_run_and_the_closing_summary_says_so(
    checkpoint: Path, tmp_path: Path
) -> None:
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", {"checkpoint": checkpoint}, ["/fusion/latent:=/unheard"])
        robot = Robot(domain)
        try:
            robot.sending = set(ALL)
            robot.wait(lambda: robot.status is not None and robot.status.sets > 5, "sets")
            assert process.end(signal.SIGINT) == 0
        finally:
            robot.close()
            process.kill()
    last_words = process.output().splitlines()[-1]
    found = re.search(
        r"closing summary: 0 latents of (\d+) sets: .*; (\d+) sets not run, as nobody listened", last_words
    )
    assert found is not None and 0 < int(found[2]) <= int(found[1])
    assert "latency" not in last_words


def test_without_sensors_the_node_idles_and_says_so(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint)
    robot.mistake("rgb/image", CompressedImage)
    robot.wait_for_state("active")
    robot.wait(lambda: "no message" in process.output(), "a warning that names the silent topics")
    warnings = [line.partition("]: ")[2] for line in process.output().splitlines() if "no message" in line]
    assert [line.split(": no message")[0] for line in warnings] == ["/rgb/image", "/depth/image, /wrench, /action"]
    assert all(line.endswith("; no sets go out") for line in warnings)
    found = "expected sensor_msgs/msg/Image (streams.rgb.message), found /robot (sensor_msgs/msg/CompressedImage)"
    assert found in warnings[0]
    robot.diagnostics.clear()
    robot.wait(lambda: len(robot.diagnostics) == 5, "diagnostics of the node and each modality")
    assert {status.level for status in robot.diagnostics.values()} == {DiagnosticStatus.STALE}
    assert robot.status.sets == 0
    assert process.alive
    assert robot.latents == []


def test_publishers_that_cannot_be_heard_are_named_whenever_they_begin(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint)
    robot.sending = {"force"}
    robot.wait(lambda: "/depth/image" in process.output() and "no message" in process.output(), "the first warning")
    warning = next(line for line in process.output().splitlines() if "no message" in line)
    assert "sets go out without it" in warning
    robot.mistake("rgb/image", CompressedImage)
    expected = "/rgb/image: expected sensor_msgs/msg/Image (streams.rgb.message), found /robot"
    robot.wait(lambda: expected in process.output(), "a second warning")
    robot.wait(lambda: "found /robot" in robot.diagnostics["fusion: rgb"].message, "diagnostics to say so")
    assert process.output().count(expected) == 1


def test_a_second_node_of_the_same_name_says_so(start: Callable, checkpoint: Path, tmp_path: Path) -> None:
    robot, _ = start(checkpoint=checkpoint)
    robot.wait_for_state("active")
    second = FusionProcess(tmp_path / "second", {"checkpoint": checkpoint})
    try:
        robot.wait(lambda: "/fusion: another node has this name" in second.output(), "a warning")
    finally:
        second.kill()


def test_simulated_time_that_jumps_back_begins_a_new_epoch(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint, use_sim_time=True)
    clock = robot.clock(start_s=1000.0)
    robot.sending = set(ALL)
    latent = robot.wait_for_set(*ALL)
    assert 1000.0 < stamp_ns(latent) / 1e9 < 2000.0
    clock.start_s = 10.0
    robot.wait(lambda: "time went back" in process.output(), "a warning")
    # One of before may still be on its way.
    robot.wait(lambda: robot.latents and stamp_ns(robot.latents[-1]) / 1e9 < 1000.0, "a latent of the new time")
    assert stamp_ns(robot.wait_for_set(*ALL)) / 1e9 < 1000.0
    robot.wait(lambda: robot.status is not None and robot.status.epoch > 0, "the next epoch")


def test_a_player_that_sets_its_clock_back_before_it_begins_is_no_news(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint, use_sim_time=True)
    clock = robot.clock(start_s=1000.0)
    robot.wait(lambda: robot.status is not None and robot.status.header.stamp.sec >= 1000, "simulated time")
    clock.start_s = 500.0
    robot.wait(lambda: robot.status.epoch == 1, "the next epoch")
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    assert "time went back" not in process.output()
    clock.start_s = 10.0
    robot.wait(lambda: "time went back" in process.output(), "a warning")


def test_cuda_where_there_is_none_falls_back_to_the_processor_and_says_so(start: Callable, checkpoint: Path) -> None:
    robot, process = start(checkpoint=checkpoint, device="cuda")
    robot.wait_for_state("active")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert robot.status.device.startswith(expected)
    assert ("running on the processor" in process.output()) == (expected == "cpu")


def test_points_are_published_where_sensor_msgs_py_is_installed_and_else_it_is_named(
    start: Callable, checkpoint: Path
) -> None:
    robot, process = start(checkpoint=checkpoint)
    try:
        from sensor_msgs_py.point_cloud2 import read_points_numpy
    except ImportError:
        robot.wait_for_state("active")
        assert process.output().count("sensor_msgs_py is not installed") == 1
        return
    clouds = robot.listen("predicted/points", PointCloud2)
    robot.sending = set(ALL)
    robot.wait(lambda: clouds, "a point cloud")
    points = read_points_numpy(clouds[0], ("x", "y", "z"))
    assert clouds[0].header.frame_id == FRAMES["depth"]
    assert stamp_ns(clouds[0]) in robot.sent_ns
    assert points.shape == (64 * 64, 3)
    assert (points[:, 2] > 0.0).all()
