"""Status, diagnostics and closing summary give one account of every sample."""

import re
import signal
from pathlib import Path

import numpy as np

from ..robot import ALL, Robot, fusion_and_robot, image


def diagnosed(robot: Robot, name: str) -> dict[str, str]:
    """Return the values that diagnostics give a modality."""
    return {pair.key: pair.value for pair in robot.diagnostics[f"fusion: {name}"].values}


def test_rejected_samples_count_once_and_as_used_nowhere(checkpoint: Path, tmp_path: Path) -> None:
    with fusion_and_robot(tmp_path / "log", {"checkpoint": checkpoint}) as (robot, process):
        broken = image(np.full((48, 64, 3), 100, np.uint8))
        broken.encoding = "unheard_of"
        robot.rgb = broken
        robot.sending = set(ALL)
        robot.wait_for_set("depth", "force", "action")
        robot.force = np.full(6, np.nan)
        robot.wait_for_set("depth", "action")
        robot.sending = set()
        robot.wait(lambda: robot.new_status().sets == robot.new_status().sets, "the sets to stop")
        robot.diagnostics.clear()
        robot.wait(lambda: len(robot.diagnostics) == 5, "diagnostics")
        for name in ALL:
            modality, dropped = robot.modality(name), robot.dropped(name)
            held = modality.received - modality.used - sum(dropped.values())
            assert 0 <= held <= 512, f"{name}: {modality}"
            values = diagnosed(robot, name)
            assert int(values["received"]) == modality.received and int(values["used"]) == modality.used
            assert {reason: int(values[f"dropped: {reason}"]) for reason in dropped} == dropped
        rgb = robot.modality("rgb")
        assert rgb.used == 0 and robot.dropped("rgb")["rejected"] > 0
        assert robot.dropped("force")["rejected"] > 0
        status = robot.new_status()
        assert process.end(signal.SIGINT) == 0
        summary = process.output().splitlines()[-1]
        found = re.search(r"closing summary: (\d+) latents of (\d+) sets: rgb in 0%, depth in (\d+)%", summary)
        assert found is not None, summary
        assert (int(found[1]), int(found[2])) == (status.published, status.sets)
        assert f"rgb {robot.dropped('rgb')['rejected']} rejected" in summary
        assert f"force {robot.dropped('force')['rejected']} rejected" in summary
