"""No call of a client ends the node.

500 random calls; SERVICE_CALLS=10000 in the environment sends as many.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically

from ..robot import ALL, FusionProcess, Robot, fusion_and_robot
from .service_fuzzer import ServiceFuzzer

CALLS = int(os.environ.get("SERVICE_CALLS", "500"))


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """A node and a robot that sends everything."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as (robot, process):
        robot.sending = set(ALL)
        yield robot, process


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Iterator[Robot]:
    """The robot of the shared node; sets go on after each test."""
    robot, process = running
    robot.wait_for_set(*ALL)
    yield robot
    assert process.alive
    robot.wait_for_set(*ALL)


def by_id(robot: Robot, number: int) -> bool:
    """Ask for a transition by its id, as lifecycle managers do; return whether it succeeded."""
    request = ChangeState.Request(transition=Transition(id=number))
    return robot.call(ChangeState, "change_state", request).success


@pytest.mark.parametrize("number", [0, 1, 2, 3, 8, 10, 97, 99, 255])
def test_a_transition_that_does_not_exist_in_the_state_is_refused(robot: Robot, number: int) -> None:
    assert not by_id(robot, number)
    assert robot.state() == "active"


def test_parameters_of_unknown_types_are_refused_and_the_others_of_the_call_are_set(robot: Robot) -> None:
    bad = Parameter(name="max_wait", value=ParameterValue(type=77))
    good = Parameter(name="max_wait", value=ParameterValue(type=3, double_value=0.06))
    answer = robot.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[bad, good, bad]))
    assert [result.successful for result in answer.results] == [False, True, False]
    assert "77" in answer.results[0].reason
    assert robot.get("max_wait") == 0.06
    atomic = SetParametersAtomically.Request(parameters=[good, bad])
    answer = robot.call(SetParametersAtomically, "set_parameters_atomically", atomic)
    assert not answer.result.successful and "77" in answer.result.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("streams.rbg.tolerance", "'streams.rbg.tolerance': no such parameter; did you mean streams.rgb.tolerance?"),
        ("streams.lidar.topic", "'streams.lidar.topic': no such parameter"),
        ("", "'': no such parameter"),
    ],
)
def test_a_parameter_that_the_node_does_not_have_is_refused_by_name(robot: Robot, name: str, reason: str) -> None:
    unknown = Parameter(name=name, value=ParameterValue(type=3, double_value=0.03))
    good = Parameter(name="max_wait", value=ParameterValue(type=3, double_value=0.06))
    atomic = SetParametersAtomically.Request(parameters=[good, unknown])
    answer = robot.call(SetParametersAtomically, "set_parameters_atomically", atomic)
    assert not answer.result.successful and answer.result.reason.startswith(reason)
    answer = robot.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[unknown, good]))
    assert [result.successful for result in answer.results] == [False, True]
    assert answer.results[0].reason.startswith(reason)
    assert name not in robot.parameters()


def test_after_random_calls_of_all_services_sets_keep_coming(
    robot: Robot, running: tuple[Robot, FusionProcess]
) -> None:
    # Ten calls take about 0.2 s.
    fuzzer = ServiceFuzzer(robot, running[1], seed=1)
    fuzzer.run(CALLS)
    assert len(fuzzer.found) >= 12
    assert "Traceback" not in running[1].output()


def test_a_lifecycle_manager_may_configure_a_node_that_started_itself_and_take_it_over(
    robot: Robot, running: tuple[Robot, FusionProcess]
) -> None:
    assert not by_id(robot, Transition.TRANSITION_CONFIGURE)
    assert by_id(robot, Transition.TRANSITION_DEACTIVATE)
    assert by_id(robot, Transition.TRANSITION_CLEANUP)
    assert by_id(robot, Transition.TRANSITION_CONFIGURE)
    assert by_id(robot, Transition.TRANSITION_ACTIVATE)
    robot.wait_for_set(*ALL)


def test_bytes_that_are_no_message_are_passed_over(robot: Robot) -> None:
    publisher = robot.publisher("wrench")
    for junk in (b"\x00\x01\x00\x00", b"\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff", b"\x00" * 64):
        for _ in range(20):
            publisher.publish(junk)
        robot.wait_for_new_latents(3)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("SystemExit('out of threads')", "SystemExit: out of threads"),
        ("worker.DeviceLostError('cuda: the GPU stopped working')", "DeviceLostError: cuda: the GPU stopped working"),
    ],
    ids=["thread", "GPU"],
)
def test_a_worker_that_cannot_go_on_ends_the_process_with_exit_code_1(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str, told: str
) -> None:
    # Python imports sitecustomize at the start of every process.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "def trap():\n"
        "    import smvae_ros.node.worker as worker\n"
        f"    def fuse(*_): raise {cause}\n"
        "    worker.FusionWorker._fuse = fuse\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'smvae_ros.node.process':\n"
        "            sys.meta_path.remove(self)\n"
        "            trap()\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint}) as (robot, process):
        robot.sending = set(ALL)
        robot.wait(lambda: not process.alive, "the process to end")
        assert process.process.returncode == 1
        assert f"the worker's thread ended: {told}" in process.output()
