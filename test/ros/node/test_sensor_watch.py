"""Sentences about stamps that are not of the node's time."""

import pytest

from smvae_ros.node.sensor_watch import span, stamp_problem

S = 1_000_000_000
NOW = 1_790_000_000 * S
DAY = 24 * 3600 * S


@pytest.mark.parametrize("behind", [-S, 0, S // 2, S])
def test_a_stamp_of_about_now_is_no_problem(behind: int) -> None:
    assert stamp_problem(NOW - behind, NOW, future=False, simulated=False) == ""


@pytest.mark.parametrize(
    ("stamp_ns", "future", "simulated", "words"),
    [
        (NOW - 3 * S, False, False, ("3.0 s behind", "its clock is another")),
        (NOW - 400 * DAY, False, False, ("1.1 years behind", "recording (use_sim_time is false)")),
        (NOW - 400 * DAY, False, True, ("1.1 years behind", "recording")),
        (86_400 * S, False, False, ("56.7 years behind", "from the start of the machine")),
        (NOW + 3600 * S, True, False, ("1.0 h ahead", "dropped")),
        (NOW + 400 * DAY, True, True, ("1.1 years ahead", "real time")),
    ],
)
def test_the_sentence_says_how_far_off_a_stamp_is_and_why(
    stamp_ns: int, future: bool, simulated: bool, words: tuple[str, ...]
) -> None:
    problem = stamp_problem(stamp_ns, NOW, future=future, simulated=simulated)
    assert all(each in problem for each in words), problem
    assert not simulated or "use_sim_time" not in problem


def test_times_are_told_in_the_unit_that_suits_them() -> None:
    assert [span(s) for s in (0.08, 1.5, 90.0, 7200.0, 1e6)] == ["80 ms", "1.5 s", "1.5 min", "2.0 h", "11.6 days"]
