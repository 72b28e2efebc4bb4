"""The calls of nav2's lifecycle manager, in its order, with `autostart: false` and no bond."""

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
