"""Batches on a device are the samples that were asked for."""

import numpy as np
import torch

from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.loader import Loader, _ahead
from smvae_core.data.samples import read_samples
from smvae_core.modality import vision_touch_modalities


def test_batches_are_the_samples_in_the_order_asked_for(shared_logs):
    samples = read_samples(find_trajectories(shared_logs), vision_touch_modalities())
    loader = Loader(samples, torch.device("cpu"))
    indices = [np.array([3, 50, 7]), np.array([16, 0])]
    for index, (batch, available) in zip(indices, loader.batches(indices), strict=True):
        expected, mask = samples.batch(index)
        assert torch.equal(available, mask)
        assert all(torch.equal(batch[name], expected[name]) for name in expected)
        assert all(x.dtype == torch.float32 for x in batch.values())


def test_what_is_made_ahead_comes_in_order_and_once():
    made: list[int] = []

    def make(index: np.ndarray) -> int:
        made.append(int(index))
        return 10 * int(index)

    stream = _ahead(make, map(np.array, range(5)))
    assert next(stream) == 0 and made == [0, 1][: len(made)]
    assert list(stream) == [10, 20, 30, 40] and made == list(range(5))
