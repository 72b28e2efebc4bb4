"""The start of the fusion node: parameters, parameter files and quality of service that it is given."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from ament_index_python.packages import get_package_prefix

from smvae_ros.node.fusion_node import FusionNode, usable_threads

from ..fusion_process import PATIENCE_S
from ..robot import ALL, FusionProcess, Robot, fusion_starter, own_domain


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Robot, FusionProcess]]]:
    """Starts a node of the test's own."""
    with fusion_starter(tmp_path / "log") as begin:
        yield begin


def test_quality_of_service_is_overridden_by_parameter(start: Callable, checkpoint: Path) -> None:
    robot, _ = start(**{"checkpoint": checkpoint, "qos_overrides./rgb/image.subscription.reliability": "reliable"})

    def reliability(topic: str) -> str:
        return robot.node.get_subscriptions_info_by_topic(topic)[0].qos_profile.reliability.name

    robot.wait(lambda: robot.listeners("rgb/image") and robot.listeners("wrench"), "the node to subscribe")
    assert reliability("/rgb/image") == "RELIABLE"
    assert reliability("/wrench") == "BEST_EFFORT"


def test_nonsense_for_a_quality_of_service_leaves_the_node_inactive(start: Callable, checkpoint: Path) -> None:
    robot, process = start(**{"checkpoint": checkpoint, "qos_overrides./wrench.subscription.reliability": "perhaps"})
    robot.wait_for_state("inactive")
    assert "perhaps" in process.output()
    assert robot.listeners("rgb/image") == 0


def test_by_itself_the_node_takes_the_fastest_back_end_after_its_first_latent(
    start: Callable, checkpoint: Path
) -> None:
    robot, process = start(checkpoint=checkpoint, backend="auto")
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    robot.wait(lambda: "runs with" in process.output(), "the back ends to be compared")
    assert "by eager" in process.output() and "from now on, the fastest of: eager" in process.output()
    robot.wait_for_set(*ALL)


def test_a_back_end_that_is_fixed_is_not_compared_and_one_that_cannot_run_is_named(
    start: Callable, checkpoint: Path
) -> None:
    robot, process = start(checkpoint=checkpoint, backend="cuda_graph")
    robot.wait_for_state("unconfigured")
    assert "cuda_graph" in process.output() and "Traceback" not in process.output()


def test_a_parameter_of_the_wrong_type_ends_the_start_with_one_sentence(start: Callable) -> None:
    _, process = start(threads="many")
    assert process.process.wait(60) == 2
    assert "threads" in process.output()
    assert "Traceback" not in process.output()


def test_a_parameter_file_that_is_not_there_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    process = FusionProcess(tmp_path / "log", {}, files=[tmp_path / "mine.yaml"])
    assert process.process.wait(60) == 2
    said = process.output().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and str(tmp_path / "mine.yaml") in said[0]


def test_what_parameter_files_say_in_vain_is_named(checkpoint: Path, tmp_path: Path) -> None:
    of_another, of_all = tmp_path / "another.yaml", tmp_path / "all.yaml"
    of_another.write_text("fusion_node:\n  ros__parameters: {max_wait: 0.1}\n")
    of_all.write_text(
        f"/**:\n  ros__parameters:\n    checkpoint: {checkpoint}\n    reference: lidar\n    max_wait: 1\n"
        "    streams: {lidar: {topic: scan, depth: 4}, rgb: {topik: image}}\n"
    )
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", {}, files=[of_another, of_all])
        robot = Robot(domain)
        try:
            robot.wait_for_state("unconfigured")
            assert f"{of_another}: expected a block for /fusion or /**, found /fusion_node" in process.output()
            assert f"{of_all}: expected" not in process.output()
            assert "max_wait: expected a double (with a point, as 1.0), found 1" in process.output()
            assert not robot.change("configure")
            assert "]: the reference must be one of rgb, depth, force, action, found lidar\n" in process.output()
            assert robot.set(reference="rgb") == ""
            assert robot.change("configure")
            assert process.output().count("streams.lidar") == 1
            assert "streams.rgb.topik: no such parameter" in process.output()
            assert "found 'a b'" in robot.set(streams__rgb__topic="a b")
        finally:
            robot.close()
            process.kill()


def test_a_bad_stream_parameter_leaves_the_node_unconfigured_until_it_is_mended(
    start: Callable, checkpoint: Path
) -> None:
    robot, process = start(**{"checkpoint": checkpoint, "streams.force.least": 64, "streams.rgb.tolerence": 0.1})
    robot.wait_for_state("unconfigured")
    assert "least" in process.output()
    assert robot.set(streams__force__least=16) == ""
    assert robot.change("configure")
    assert "streams.rgb.tolerence: no such parameter" in process.output()


def test_an_empty_list_in_a_parameter_file_is_the_default(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "fusion.yaml"
    file.write_text(
        f"/**:\n  ros__parameters:\n    checkpoint: {checkpoint}\n    streams: {{action: {{joints: [], fields: []}}}}\n"
    )
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", {}, files=[file])
        robot = Robot(domain)
        try:
            robot.wait_for_state("active")
            assert robot.get("streams.action.joints") == [""]
        finally:
            robot.close()
            process.kill()


def test_qos_overrides_without_effect_are_named_with_the_reason(checkpoint: Path, tmp_path: Path) -> None:
    overrides = {
        "/rgb/imag.subscription.reliability": "did you mean /rgb/image?",
        "rgb/image.subscription.depth": "needs its full name, /rgb/image",
        "/depth/image.subscription.reliability": "is remapped to /cam/depth",
        "/wrench.publisher.depth": "the node has a subscription on /wrench, but no publisher",
        "/wrench.subscription.durability": "expected one of the policies history, depth, reliability",
        "/wrench.listener.depth": "expected subscription or publisher after the topic, found 'listener'",
        "/sonar.subscription.depth": "it has those on ",
    }
    parameters: dict[str, object] = {f"qos_overrides.{name}": "reliable" for name in overrides}
    # Those of a disabled modality wait for it to be enabled.
    parameters |= {"qos_overrides./action.subscription.depth": 3, "streams.action.enabled": False}
    parameters |= {"qos_overrides./fusion/latent.publisher.depth": 2, "checkpoint": checkpoint}
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", parameters, ["depth/image:=/cam/depth"])
        robot = Robot(domain)
        try:
            robot.wait_for_state("active")
        finally:
            robot.close()
            process.kill()
    said = [line for line in process.output().splitlines() if "has no effect" in line]
    for name, reason in overrides.items():
        lines = [line for line in said if f"qos_overrides.{name} has no effect" in line]
        assert len(lines) == 1 and reason in lines[0], (name, lines)
    assert len(said) == len(overrides)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-r", "wrench:=rgb/image"), "/rgb/image: expected messages of one type, found sensor_msgs/msg/Image for rgb"),
        (("-r", "rgb/image:=~/predicted/rgb"), "/fusion/predicted/rgb: expected the topic of a sensor for rgb"),
        (("-p", "qos_overrides./wrench.subscription.depth:=-4"), "depth: expected 0 to 2147483647, found -4"),
        (("-p", "qos_overrides./wrench.subscription.reliability:=maybe"), "subscription.reliability: maybe"),
        (("-p", "qos_overrides./depth/camera_info.subscription.reliability:=maybe"), "/depth/camera_info cannot be"),
        (("-r", "wrench:=depth/camera_info"), "/depth/camera_info cannot be subscribed to as "),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_topic_that_cannot_be_subscribed_to_leaves_the_node_inactive_and_is_named(
    checkpoint: Path, arguments: tuple[str, ...], told: str
) -> None:
    given = ["-p", f"checkpoint:={checkpoint}", "-p", "backend:=eager", "-p", "device:=cpu"]
    with own_domain():
        rclpy.init(args=["fusion_node", "--ros-args", *given, *arguments])
        try:
            node = FusionNode()
            entities = len(list(node.subscriptions)), len(list(node.timers))
            node.start()
            assert (node.state, told in node._problem) == ("inactive", True), node._problem
            assert (len(list(node.subscriptions)), len(list(node.timers))) == entities, "nothing is left behind"
            node.end()
        finally:
            rclpy.try_shutdown()


def test_the_threads_of_one_inference_follow_the_cores_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_threads(0, pytest.fail) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_threads(0, pytest.fail) == min(4, max(1, len(before) - 1))
    said: list[str] = []
    # So many threads would end the process.
    assert usable_threads(100_000, said.append) == len(before)
    assert len(said) == 1 and "found 100000" in said[0]
    assert usable_threads(len(before), pytest.fail) == len(before)


@pytest.mark.parametrize("executable", ["fusion_node", "simulated_robot"])
@pytest.mark.parametrize(
    "arguments", [("-p", "use_sim_time:=7"), ("-r", "__ns:=no_slash"), ("--unknown",)], ids=" ".join
)
def test_ros_arguments_that_cannot_be_used_are_one_sentence(executable: str, arguments: tuple[str, ...]) -> None:
    path = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / executable
    command = [str(path), "--ros-args", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
