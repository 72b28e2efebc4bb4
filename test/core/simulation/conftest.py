"""Simulated logs that several tests read: made once, small."""

from pathlib import Path

import pytest

from smvae_core.simulation.simulate import simulate

TRAJECTORIES, STEPS, SEED = 2, 60, 5


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of two triangle trajectories of 60 steps, seed 5: parts of 50 and 10 steps each."""
    return simulate(tmp_path_factory.mktemp("logs"), trajectories=TRAJECTORIES, steps=STEPS, seed=SEED)
