"""A replay with a checkpoint that has trust: who is distrusted when, what leaves the sets, and what the report says."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_ros.bags.reading import read_bag
from smvae_ros.replay.job import ReplayJob
from smvae_ros.report.replays import replay_with_report
from test.core.made_trust import write_checkpoint

DIM = {"dim": ("rgb=0.3@:0.5",)}
"""The camera of the bag is bright, which is a fault here. It is dark, and taken for well, for half a second."""


@pytest.fixture(scope="module", params=[None, MemoryConfiguration(size=8)], ids=["static", "memory"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny", memory=request.param)).eval()
    bright = np.random.default_rng(1).random((4, 3, 64, 2, 64, 2), np.float32).mean(axis=(3, 5), dtype=np.float32)
    return write_checkpoint(tmp_path_factory.mktemp("told") / "told.safetensors", model, 0.3 * bright, bright)


def replayed(bag: Path, out: Path, checkpoint: Path, policy: str) -> tuple[str, dict[str, list[Any]]]:
    job = ReplayJob(checkpoint, ({"streams": {"rgb": {"distrust": policy}}},), "cpu", DIM, write_bag=True)
    replay_with_report(bag, out, job, 2)
    return (out / "report.html").read_text(), pq.read_table(out / "sets.parquet").to_pydict()


def test_a_lying_camera_is_in_the_table_and_in_the_report(bag: Path, told: Path, tmp_path: Path) -> None:
    text, warned = replayed(bag, tmp_path / "warn", told, "warn")
    begun = [at >= 500_000_000 for at in np.array(warned["log_ns"]) - warned["log_ns"][0]].index(True)
    noticed = warned["distrusted_rgb"].index(True)
    assert begun <= noticed <= begun + 4 and all(warned["distrusted_rgb"][noticed:])
    assert not any(warned["distrusted_depth"]) and min(warned["trust_depth"]) > 0.9
    assert all(warned["present_rgb"])
    assert "Did a sensor lie?" in text and "rgb contradicted what else was known, and was distrusted." in text
    assert "error of the others: depth" in text

    text, dropped = replayed(bag, tmp_path / "drop", told, "drop")
    assert dropped["present_rgb"] == [not one for one in dropped["distrusted_rgb"]]
    assert dropped["trust_rgb"][-1] < 0.5, "it is judged on"
    assert (
        dropped["distrusted_rgb"] == warned["distrusted_rgb"] and dropped["mean"][:noticed] == warned["mean"][:noticed]
    )
    assert "out of the sets" in text
    replayed(bag, tmp_path / "again", told, "drop")
    again = (tmp_path / "again" / "sets.parquet").read_bytes()
    assert again == (tmp_path / "drop" / "sets.parquet").read_bytes()


@pytest.mark.parametrize("policy", ["off", "warn", "drop"])
def test_the_bag_of_latents_tells_what_the_node_would(bag: Path, told: Path, tmp_path: Path, policy: str) -> None:
    _, table = replayed(bag, tmp_path, told, policy)
    latents = [message for *_, message in read_bag(tmp_path / "fusion", {"latent": "/fusion/latent"})]
    assert len(latents) == len(table["stamp_ns"])
    for row, latent in enumerate(latents):
        held = [name for name in ("rgb", "depth", "force", "action") if table[f"present_{name}"][row]]
        assert latent.modalities == held
        np.testing.assert_array_equal(latent.trust, np.float32([table[f"trust_{name}"][row] for name in held]))
        assert latent.distrusted == (["rgb"] if table["distrusted_rgb"][row] and policy != "off" else [])
    assert any(table["distrusted_rgb"])


def test_a_checkpoint_without_trust_says_nothing(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    text, table = replayed(bag, tmp_path / "out", checkpoint, "drop")
    latents = [message for *_, message in read_bag(tmp_path / "out" / "fusion", {"latent": "/fusion/latent"})]
    assert latents and not any(len(latent.trust) or latent.distrusted for latent in latents)
    assert set(table["distrusted_rgb"]) == set(table["trust_rgb"]) == {None}
    assert "Did a sensor lie?" not in text
