"""The calls of nav2's lifecycle manager, in its order, with `autostart: false` and no bond.

It asks by id for a transition and, if that succeeds, for the state (changeStateForNode in its lifecycle_manager.cpp).
Startup is CONFIGURE, ACTIVATE; pause is DEACTIVATE; resume is ACTIVATE; reset is DEACTIVATE, CLEANUP; shutdown is
DEACTIVATE, CLEANUP, SHUTDOWN, whether or not the ones before succeed.
"""

import signal
from pathlib import Path

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from ..robot import ALL, Robot, fusion_and_robot


def change(robot: Robot, number: int, expected: int) -> None:
    """Change the state by the transition's id and look at the state, as the manager does."""
    request = ChangeState.Request(transition=Transition(id=number))
    assert robot.call(ChangeState, "change_state", request).success
    assert robot.call(GetState, "get_state", GetState.Request()).current_state.id == expected


def test_a_manager_starts_pauses_resumes_resets_and_shuts_down_the_node(checkpoint: Path, tmp_path: Path) -> None:
    parameters = {"checkpoint": checkpoint, "autostart": False}
    with fusion_and_robot(tmp_path / "log", parameters) as (robot, process):
        robot.sending = set(ALL)
        change(robot, Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
        change(robot, Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
        robot.wait_for_set(*ALL)
        change(robot, Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE)
        change(robot, Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
        robot.wait_for_set(*ALL)
        change(robot, Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE)
        change(robot, Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED)
        change(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.PRIMARY_STATE_FINALIZED)
        assert process.end(signal.SIGTERM) == 0


def ask(robot: Robot, number: int) -> tuple[bool, str]:
    """Ask for a transition by its id; return whether it succeeded, and the state after it."""
    request = ChangeState.Request(transition=Transition(id=number))
    return robot.call(ChangeState, "change_state", request).success, robot.state()


def test_a_node_that_started_itself_refuses_the_manager_and_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint}) as (robot, process):
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        for _ in range(3):
            assert ask(robot, Transition.TRANSITION_CONFIGURE) == (False, "active")
        robot.wait_for_set(*ALL)
        assert "/fusion/change_state: a request was refused: there is no transition '1'" in process.output()
        assert process.end(signal.SIGTERM) == 0


def test_a_manager_shuts_down_a_paused_node_and_one_that_could_not_be_configured(
    checkpoint: Path, tmp_path: Path
) -> None:
    parameters = {"checkpoint": tmp_path / "none.safetensors", "autostart": False}
    with fusion_and_robot(tmp_path / "log", parameters) as (robot, process):
        assert ask(robot, Transition.TRANSITION_CONFIGURE) == (False, "unconfigured")
        assert robot.set(checkpoint=str(checkpoint)) == ""
        assert ask(robot, Transition.TRANSITION_CONFIGURE) == (True, "inactive")
        assert ask(robot, Transition.TRANSITION_CONFIGURE) == (False, "inactive")
        assert ask(robot, Transition.TRANSITION_ACTIVATE) == (True, "active")
        assert ask(robot, Transition.TRANSITION_ACTIVATE) == (False, "active")
        assert ask(robot, Transition.TRANSITION_DEACTIVATE) == (True, "inactive")
        # Shutdown, from here.
        assert ask(robot, Transition.TRANSITION_DEACTIVATE) == (False, "inactive")
        assert ask(robot, Transition.TRANSITION_CLEANUP) == (True, "unconfigured")
        assert ask(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == (True, "finalized")
        assert ask(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == (False, "finalized")
        assert process.end(signal.SIGTERM) == 0
