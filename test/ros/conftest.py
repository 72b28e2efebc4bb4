"""A short Vision&Touch trajectory, the bag made of it, and an untrained model of the smallest size."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from smvae_core.checkpoint import save
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_ros.bags.from_logs import write_bag
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay

torch.set_num_threads(1)

PARTS = (12, 9)

Edit = Callable[[str, int, int, bytes], Iterator[tuple[int, bytes]]]
"""Topic, number of the message on it, log time, content; gives what to write instead."""


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trajectory in two parts, 21 steps."""
    folder = tmp_path_factory.mktemp("logs")
    random = np.random.default_rng(0)
    for part, steps in enumerate(PARTS, start=1):
        with h5py.File(folder / f"20190408_18304{part}_triangle_0_journal_7_{part}_1000.h5", "w") as file:
            file["image"] = random.integers(0, 255, (steps, 128, 128, 3), dtype=np.uint8)
            depth = random.uniform(0.5, 1.8, (steps, 128, 128, 1)).astype(np.float32)
            depth[:, :4] = np.nan
            file["depth_data"] = depth
            file["ee_forces_continuous"] = random.normal(0, 3, (steps, 50, 6))
            file["action"] = random.normal(0, 0.5, (steps, 4))
            file["contact"] = np.zeros((steps, 50), bool)
    return folder


@pytest.fixture(scope="session")
def bag(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trajectory as a bag."""
    out = tmp_path_factory.mktemp("bags") / "peg"
    write_bag(find_trajectories(logs)[0], out, fov=26.5)
    return out


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model; its means are 0.25 everywhere."""
    return saved(tmp_path_factory.mktemp("models") / "tiny.safetensors", ModelConfiguration(size="tiny"))


@pytest.fixture(scope="session")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with a memory of two seconds."""
    memory = MemoryConfiguration(size=8, horizon=2.0)
    configuration = ModelConfiguration(size="tiny", memory=memory)
    return saved(tmp_path_factory.mktemp("models") / "memory.safetensors", configuration)


def saved(path: Path, configuration: ModelConfiguration) -> Path:
    """Save an untrained model."""
    torch.manual_seed(0)
    model = MultimodalVAE(configuration)
    mean = {modality.name: torch.full(modality.shape, 0.25) for modality in configuration.modalities}
    save(path, model, mean, training=None, metrics=None)
    return path


@pytest.fixture(scope="session")
def results(bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a replay of the bag leaves."""
    out = tmp_path_factory.mktemp("replay") / "results"
    replay(bag, out, ReplayJob(checkpoint, device="cpu"))
    return out


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Writes a changed copy of a bag."""

    def edit(bag: Path, change: Edit, name: str = "edited", plugin: StoragePlugin = StoragePlugin.SQLITE3) -> Path:
        out = tmp_path / name
        seen: dict[str, int] = {}
        with AnyReader([bag]) as reader, Writer(out, version=9, storage_plugin=plugin) as writer:
            connections = {
                c.topic: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore)
                for c in reader.connections
            }
            for connection, log_ns, content in reader.messages():
                topic = connection.topic
                for new_ns, new_content in change(topic, seen.setdefault(topic, 0), log_ns, content):
                    writer.write(connections[topic], new_ns, new_content)
                seen[topic] += 1
        return out

    return edit
