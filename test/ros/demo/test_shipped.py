"""What ships with the package does what the README says of it."""

from pathlib import Path

from smvae_core.checkpoint import default_checkpoint, read_metadata
from smvae_core.scores import Evaluation
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay

RECORDING = Path(__file__).parents[3] / "recordings" / "peg_insertion"
ALL = ("rgb", "depth", "force", "action")


def meets_its_goals(figures: Evaluation) -> None:
    """Check the NMSE that the shipped model must reach."""
    full, touch = figures.of(*ALL).nmse, figures.of("force", "action").nmse
    assert full["rgb"] <= 0.25 and full["depth"] <= 0.25
    assert figures.of("depth").nmse["rgb"] <= 0.5
    assert figures.of("rgb").nmse["depth"] <= 0.5
    assert touch["rgb"] < 0.95 and touch["depth"] < 0.95
    assert full["force"] <= 0.5


def test_the_checkpoint_is_small_and_says_how_it_was_made():
    path = default_checkpoint()
    metadata = read_metadata(path)
    assert path.stat().st_size <= 13_000_000
    assert [command.split()[:2] for command in metadata.training.commands] == [
        ["smvae", "simulate"],
        *[["smvae", "train"]] * 3,
        ["smvae", "trust"],
    ]
    assert len(metadata.metrics.subsets) == 15
    meets_its_goals(metadata.metrics)


def test_the_recording_is_small_and_the_checkpoint_meets_its_goals_on_it(tmp_path):
    assert sum(file.stat().st_size for file in RECORDING.iterdir()) <= 12_000_000
    summary = replay(RECORDING, tmp_path / "results", ReplayJob(device="cpu"))
    assert summary.evaluation.samples > 700
    meets_its_goals(summary.evaluation)
