"""How often a warning that goes on is logged."""

from smvae_ros.node.repetition import Repetition

WEEKEND_S = 60 * 3600


def test_a_weekend_of_one_fault_is_few_lines_and_the_first_comes_at_once() -> None:
    repetition = Repetition()
    logged = [second for second in range(WEEKEND_S) if repetition.due(f"found {second} bytes", second)]
    assert logged[:3] == [0, 5, 15]
    assert len(logged) < 20


def test_another_fault_is_logged_soon_but_two_in_turn_are_no_flood() -> None:
    repetition = Repetition()
    for second in range(1000):
        repetition.due("found mono16", second)
    assert repetition.due("found bayer", 1000)
    assert not repetition.due("found mono16", 1001)
    assert not repetition.due("found bayer", 1004)
    assert repetition.due("found mono16", 1005)
