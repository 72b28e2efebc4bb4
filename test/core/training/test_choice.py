"""What chooses the best epoch of a run, and what has no say in it."""

from pathlib import Path

from smvae_core import checkpoint

from ..conftest import write_log, write_logs
from .test_run import TINY, changed, figures, fit


def test_the_test_part_of_what_is_held_out_has_no_say_in_the_choice_of_the_best_epoch(tmp_path: Path) -> None:
    configuration = changed(TINY, {"data": {"held_out": 0.5}, "training": {"epochs": 2}})
    before = fit(write_logs(tmp_path / "logs"), tmp_path / "before", configuration)
    (tested,) = checkpoint.load(before.best).metadata.calibration.tested_on
    other = write_logs(tmp_path / "other")
    for log in [
        path for path in other.iterdir() if tested.split("journal_")[1][0] == path.name.split("journal_")[1][0]
    ]:
        write_log(log, 10 if log.name.startswith("20190408_183040") else 7, seed=100)
    after = fit(other, tmp_path / "after", configuration)
    assert [line["score"] for line in figures(before)] == [line["score"] for line in figures(after)]
    assert (
        checkpoint.load(before.best).metadata.calibration.subsets
        != checkpoint.load(after.best).metadata.calibration.subsets
    )
