"""Samples a second out of the cache, against opening the HDF5 file for each item as the public loaders do.

Beside it, LeRobot data sets: decoding into the cache, and pictures out of it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.lerobot_decoding import measure as measure_lerobot
from benchmarks.report import RESULTS, Goal, report
from benchmarks.synthetic_logs import STEPS, write_logs
from smvae_core.data.cache import cache_folder, cached_samples
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.loader import Loader
from smvae_core.modality import vision_touch_modalities

_BATCH = 100


class PublicLoader(Dataset):
    """One item as the public Vision&Touch loaders make it: the file opened, a step of each key read, no resizing."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths) * (STEPS - 1)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        path, step = self.paths[index // (STEPS - 1)], index % (STEPS - 1)
        with h5py.File(path, "r") as file:
            image, depth = file["image"][step], file["depth_data"][step]
            force, action = file["ee_forces_continuous"][step], file["action"][step + 1]
        depth[(depth <= 1e-7) | (depth >= 2)] = 0
        return {
            "image": torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255.0),
            "depth": torch.from_numpy(depth.transpose(2, 0, 1)),
            "force": torch.from_numpy(np.tanh(force[-32:].astype(np.float32)).T),
            "action": torch.from_numpy(action.astype(np.float32)),
        }


def _public(paths: list[Path], rounds: int, batches: int) -> Iterator[float]:
    indices = np.random.default_rng(0).permutation(len(PublicLoader(paths)))[: batches * _BATCH]
    for _ in range(rounds):
        loader = DataLoader(PublicLoader(paths), _BATCH, sampler=indices.tolist(), num_workers=2)
        stream = iter(loader)
        next(stream)  # the workers are up
        began = time.perf_counter()
        count = sum(len(batch["action"]) for batch in stream)
        yield count / (time.perf_counter() - began)


def _cached(loader: Loader, rounds: int, batches: int) -> Iterator[float]:
    order = np.random.default_rng(0).permutation(len(loader.samples))
    indices = [np.resize(order, batches * _BATCH)[i * _BATCH : (i + 1) * _BATCH] for i in range(batches)]
    for batch, _ in loader.batches(indices):
        assert len(batch) == 4
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in loader.batches(indices):
            pass
        yield batches * _BATCH / (time.perf_counter() - began)


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="where the synthetic logs are, or go; default a temporary one")
    parser.add_argument("--frames", type=int, default=300, help="frames of each made LeRobot episode")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # gathering is bound by memory; the other core is the model's
    with tempfile.TemporaryDirectory() as temporary:
        logs = write_logs(arguments.folder or Path(temporary) / "logs", arguments.files)
        trajectories, modalities = find_trajectories(logs), vision_touch_modalities()
        folder = cache_folder(logs, modalities, Path(temporary) / "cache")
        samples = cached_samples(trajectories, modalities, folder).samples
        paths = [path for trajectory in trajectories for _, path in trajectory.parts]
        # Alternating, so that whatever else the machine does falls on both.
        public: list[float] = []
        cached: list[float] = []
        for _ in range(arguments.rounds):
            public += _public(paths, 1, 12)
            cached += _cached(Loader(samples, torch.device("cpu")), 1, 300)
        slow, fast = statistics.median(public), statistics.median(cached)
        report(
            "Loader",
            f"python -m benchmarks.loader --files {len(paths)}",
            f"{len(samples)} samples of {len(paths)} synthetic files of full size, in random order, batches of "
            f"{_BATCH} in model units, by one thread. Against it the public loaders' way: a torch DataLoader of two "
            f"workers whose items open the file ({slow:.0f} samples/s; it does not even resize). Everything in the "
            f"page cache, medians of {arguments.rounds} alternating rounds after a warm-up.",
            [
                Goal("samples/s from the cache", f"{fast:,.0f}", "≥ 30,000", fast >= 30_000),
                Goal(
                    "against a file opened for each item",
                    f"{fast / slow:.0f}×",
                    "≥ 50×",
                    fast / slow >= 50,
                    "1× (torch's DataLoader)",
                ),
            ],
            arguments.results,
        )
        measure_lerobot(arguments.frames, arguments.rounds, arguments.results, samples)


if __name__ == "__main__":
    main()
