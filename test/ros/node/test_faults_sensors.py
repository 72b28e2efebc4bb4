"""Sensors that are silent, die, come back or stutter: the sets and counts meanwhile, and the recovery."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from ..robot import ALL, FusionProcess, Robot, fusion_and_robot, stamp_ns

BURST = 1000


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """One node for all, and a robot."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as both:
        yield both


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Robot:
    """The robot, sending everything, and heard."""
    robot, _ = running
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    return robot


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in ALL if name not in names)


def wait_for_life(robot: Robot, *names: str) -> None:
    """Wait for a status by which just these are alive and in every set of the last second."""

    def shares() -> dict[str, float]:
        return {name: round(robot.modality(name).share, 1) for name in ALL}

    def alive() -> set[str]:
        return {name for name in ALL if robot.modality(name).alive}

    expected = {name: float(name in names) for name in ALL}
    robot.wait(lambda: alive() == set(names) and shares() == expected, f"only {names} to be alive and in every set")


def seen(robot: Robot, name: str) -> int:
    """Messages of a modality that the node knows of."""
    return robot.modality(name).received + robot.modality(name).lost


@pytest.mark.parametrize("silent", ALL)
def test_a_sensor_silent_from_the_start_is_missing_and_nothing_waits_for_it(robot: Robot, silent: str) -> None:
    robot.sending = set()
    robot.restart()
    robot.sending = set(without(silent))
    robot.wait_for_set(*without(silent))
    robot.wait(lambda: robot.modality(without(silent)[0]).used > 0, "a status with sets")
    status = robot.modality(silent)
    assert (status.alive, status.received, status.used, status.age, status.share) == (False, 0, 0, -1.0, 0.0)
    assert robot.diagnostics[f"fusion: {silent}"].level == DiagnosticStatus.STALE
    assert "yet" in robot.diagnostics[f"fusion: {silent}"].message
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)


@pytest.mark.parametrize("dying", ALL)
def test_a_sensor_that_dies_is_left_out_and_taken_in_again_when_it_returns(robot: Robot, dying: str) -> None:
    robot.sending = set(without(dying))
    robot.wait_for_set(*without(dying))
    wait_for_life(robot, *without(dying))
    received = robot.modality(dying).received
    assert received > 0
    assert robot.modality(dying).age > 0.2
    stamps = [stamp_ns(latent) for latent in robot.wait_for_new_latents(10)]
    assert stamps == sorted(set(stamps))
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    wait_for_life(robot, *ALL)
    assert robot.modality(dying).received > received


@pytest.mark.parametrize("survivor", ALL)
def test_with_three_of_four_dead_the_fourth_goes_on(robot: Robot, survivor: str) -> None:
    robot.sending = {survivor}
    robot.wait_for_set(survivor)
    wait_for_life(robot, survivor)
    assert {tuple(latent.modalities) for latent in robot.wait_for_new_latents(10)} == {(survivor,)}
    assert list(robot.latents[0].attention) == pytest.approx([1.0], abs=1e-5)


def test_with_all_dead_the_sets_stop_and_begin_again(robot: Robot) -> None:
    robot.sending = set()
    robot.wait(lambda: robot.new_status().sets == robot.new_status().sets, "the sets to stop")
    assert not any(robot.modality(name).alive for name in ALL)
    robot.wait(lambda: robot.diagnostics["fusion: fusion"].level == DiagnosticStatus.STALE, "the diagnostics to say so")
    robot.latents.clear()
    sets = robot.new_status().sets
    assert robot.latents == []
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    wait_for_life(robot, *ALL)
    assert robot.modality("rgb").used > 0 and robot.status.sets > sets
    assert robot.status.epoch == 0, "silence is no restart of time"


def test_a_dead_reference_is_replaced_by_ticks_of_the_clock_until_it_is_back(robot: Robot) -> None:
    robot.sending = set(without("rgb"))
    robot.wait_for_set(*without("rgb"))

    def ticks() -> list[int]:
        return [stamp_ns(latent) for latent in robot.latents[-10:]]

    # The sets that make up for the wait come first, at the times at which RGB was due.
    robot.wait(
        lambda: len(ticks()) == 10 and all(tick % 50_000_000 == 0 for tick in ticks()),
        "ten ticks in a row on multiples of their spacing",
    )
    assert not set(ticks()) & set(robot.sent_ns)
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    assert {stamp_ns(latent) for latent in robot.wait_for_new_latents(10)} <= set(robot.sent_ns)


@pytest.mark.parametrize("pausing", ["depth", "force", "action"])
def test_what_a_sensor_saved_up_during_a_pause_comes_too_late_for_any_set(robot: Robot, pausing: str) -> None:
    robot.sending = set(without(pausing))
    robot.wait_for_set(*without(pausing))
    wait_for_life(robot, *without(pausing))
    robot.wait_for_new_latents(20)
    before, sent = robot.modality(pausing), robot.sent[pausing]
    for moment_ns in robot.sent_ns[-20:-10]:
        robot.send({pausing}, moment_ns)
    robot.wait(
        lambda: seen(robot, pausing) - before.received - before.lost == robot.sent[pausing] - sent,
        "each message of the burst to be received or counted as lost",
    )
    assert robot.modality(pausing).received > before.received
    assert robot.modality(pausing).used == before.used
    stamps = [stamp_ns(latent) for latent in robot.wait_for_new_latents(10)]
    assert stamps == sorted(set(stamps))
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    wait_for_life(robot, *ALL)
    assert robot.status.epoch == 0


def test_a_burst_at_a_node_that_could_not_listen_is_taken_or_counted_as_lost(
    running: tuple[Robot, FusionProcess], robot: Robot
) -> None:
    _, process = running
    robot.sending = set()
    robot.wait(lambda: robot.new_status().sets == robot.new_status().sets, "the sets to stop")
    before = robot.modality("force")
    sent = robot.sent["force"]
    process.process.send_signal(signal.SIGSTOP)
    for _ in range(BURST // 50):
        robot.send({"force"})
    process.process.send_signal(signal.SIGCONT)
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    robot.sending = set()
    robot.wait(
        lambda: seen(robot, "force") - before.received - before.lost == robot.sent["force"] - sent,
        "each wrench to be received or counted as lost",
    )
    assert robot.modality("force").lost > before.lost, "a queue of 200 cannot hold a burst of 1000"
    assert process.alive


def test_a_reference_of_which_half_of_the_stamps_are_wrong_costs_the_others_nothing(robot: Robot) -> None:
    wrong = [-3_600_000, -300, 60, 700]
    sent = 0

    def alternate(moment_ns: int) -> list[int]:
        nonlocal sent
        sent += 1
        return [moment_ns + (wrong[sent // 2 % len(wrong)] * 1_000_000 if sent % 2 else 0)]

    robot.stamping["rgb"] = alternate
    begin = len(robot.sent_ns)
    robot.wait_for_new_latents(60)
    with_depth = {stamp_ns(latent) for latent in robot.latents if "depth" in latent.modalities}
    last = max(with_depth)
    moments = [moment for moment in robot.sent_ns[begin + 5 :] if moment < last]
    lost = [moment for moment in moments if not any(abs(moment - stamp) <= 25_000_000 for stamp in with_depth)]
    del robot.stamping["rgb"]
    assert len(lost) <= 0.1 * len(moments)
    robot.wait_for_set(*ALL)
