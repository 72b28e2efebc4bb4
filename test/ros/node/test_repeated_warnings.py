"""How often a warning about a fault that goes on is logged."""

from smvae_ros.node.repeated_warnings import GrowingInterval, RepeatedWarnings

WEEKEND_S = 60 * 3600


def test_a_fault_that_lasts_a_weekend_gives_few_lines_and_the_first_at_once() -> None:
    interval = GrowingInterval()
    logged = [second for second in range(WEEKEND_S) if interval.due(f"found {second} bytes", second)]
    assert logged[:3] == [0, 5, 15]
    assert len(logged) < 20


def test_another_fault_is_logged_soon_but_two_in_turn_are_not_logged_more_often() -> None:
    interval = GrowingInterval()
    for second in range(1000):
        interval.due("found mono16", second)
    assert interval.due("found bayer", 1000)
    assert not interval.due("found mono16", 1001)
    assert not interval.due("found bayer", 1004)
    assert interval.due("found mono16", 1005)


def test_each_subject_has_its_own_interval() -> None:
    lines: list[str] = []
    warnings = RepeatedWarnings(lines.append)
    for _ in range(3):
        warnings.warn("/rgb", "broken")
        warnings.warn("/depth", "broken too")
    assert lines == ["broken", "broken too"]
