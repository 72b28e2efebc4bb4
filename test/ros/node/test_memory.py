"""The memory of the node: when it is forgotten, and that the log says so once."""

from pathlib import Path

import pytest

from ..robot import ALL, fusion_and_robot


def test_memory_is_forgotten_by_a_reset_a_gap_and_a_clock_that_jumps_back(remembering: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": remembering}) as (robot, process):
        robot.sending = set(ALL)
        robot.wait(lambda: robot.latents and robot.latents[-1].memory_age > 0.0, "a latent with memory")
        latent = robot.latents[-1]
        assert 0.0 < latent.attention_of_memory < 1.0
        assert sum(latent.attention) + latent.attention_of_memory == pytest.approx(1.0, abs=1e-4)
        robot.wait(lambda: robot.new_status().memory_age >= 0.0, "a status with memory")
        assert robot.status.forgotten == 0

        robot.latents.clear()
        assert robot.reset().success
        robot.wait(lambda: any(latent.memory_age == -1.0 for latent in robot.latents), "a latent without memory")
        robot.wait(lambda: robot.latents[-1].memory_age > 0.0, "a latent with memory again")
        robot.wait(lambda: robot.new_status().forgotten == 1, "the status to count the reset")

        # Nothing comes for longer than the two seconds that the checkpoint remembers.
        robot.sending = set()
        robot.wait(lambda: robot.new_status().forgotten == 2, "memory to lapse")
        assert robot.status.memory_age == -1.0
        robot.new_status()
        robot.latents.clear()
        robot.sending = set(ALL)
        robot.wait(lambda: len(robot.latents) > 2, "latents after the gap")
        assert robot.latents[0].memory_age == -1.0 and robot.latents[-1].memory_age > 0.0

        # The stamps of all sensors go back by a minute.
        robot.stamping = {name: lambda moment: [moment - 60_000_000_000] for name in ALL}
        robot.wait(lambda: robot.new_status().forgotten == 3, "the status to count the jump")
    said = [line for line in process.output().splitlines() if "memory forgotten: " in line]
    assert [line.split("memory forgotten: ")[1].split(" for ")[0] for line in said[:3]] == [
        "~/reset was called",
        "no modality was fused",
        "time went back",
    ]
