"""How well every sense is predicted from every subset of senses."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model import Batch, MultimodalVAE

Subset = tuple[str, ...]


class SubsetErrors(BaseModel):
    """Errors of the predictions made from one subset, over the samples that have all of it.

    Attributes:
        subset: modalities that the posterior saw.
        samples: how many.
        mse: mean squared error of each modality, model units.
        share: `mse` as a share of that of predicting the training mean; below 1 something was learned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subset: Subset
    samples: int
    mse: dict[str, float]
    share: dict[str, float]


class Evaluation(BaseModel):
    """Errors of all evaluated subsets, on `samples` held-out samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int
    subsets: tuple[SubsetErrors, ...]

    def of(self, *subset: str) -> SubsetErrors:
        """The errors of one subset, named in any order.

        Raises:
            KeyError: the subset was not evaluated.
        """
        for row in self.subsets:
            if set(row.subset) == set(subset):
                return row
        raise KeyError(subset)


def all_subsets(names: Sequence[str]) -> list[Subset]:
    """Every non-empty subset, largest first: 15 of four modalities."""
    return [subset for size in range(len(names), 0, -1) for subset in combinations(names, size)]


def subset_mask(names: Sequence[str], subsets: Sequence[Subset], device: torch.device | None = None) -> Tensor:
    """(len(subsets), len(names)), bool."""
    return torch.tensor([[name in subset for name in names] for subset in subsets], dtype=torch.bool, device=device)


def evaluate(
    model: MultimodalVAE,
    samples: Samples,
    mean: Batch,
    subsets: Sequence[Subset] | None = None,
    most: int | None = None,
    batch_size: int = 128,
) -> Evaluation:
    """Predict every modality from every subset, by the posterior's mean: deterministic.

    Args:
        mean: the trivial prediction by modality, (*shape), of the training part.
        subsets: by default all.
        most: evaluate at most so many samples, evenly spaced.
    """
    subsets = all_subsets(model.names) if subsets is None else subsets
    device = next(model.parameters()).device
    masks = subset_mask(model.names, subsets, device)
    count = len(samples) if most is None else min(most, len(samples))
    index = np.linspace(0, len(samples) - 1, count).astype(int)

    squared, trivial = torch.zeros(2, len(subsets), len(model.names), dtype=torch.float64)
    scored = torch.zeros(len(subsets), len(model.names))
    held = torch.zeros(len(subsets), dtype=torch.long)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in np.array_split(index, -(-count // batch_size)):
            batch, available = samples.batch(rows)
            batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
            embeddings = model.embed(batch, available)
            base = {name: _mean_square(x - mean[name].to(device)) for name, x in batch.items()}
            for s, mask in enumerate(masks):
                whole = (available | ~mask).all(dim=1)
                held[s] += int(whole.sum())
                posterior = model.fusion(embeddings, mask.expand_as(available))
                for m, (name, x) in enumerate(model.predict(posterior.mean).items()):
                    rows_scored = whole & available[:, m]
                    squared[s, m] += _mean_square(x - batch[name])[rows_scored].sum().cpu()
                    trivial[s, m] += base[name][rows_scored].sum().cpu()
                    scored[s, m] += int(rows_scored.sum())
    model.train(training)

    mse = squared / scored.clamp(min=1)
    share = squared / trivial.clamp(min=1e-12)
    return Evaluation(
        samples=count,
        subsets=tuple(
            SubsetErrors(
                subset=subset,
                samples=int(held[s]),
                mse={name: float(mse[s, m]) for m, name in enumerate(model.names)},
                share={name: float(share[s, m]) for m, name in enumerate(model.names)},
            )
            for s, subset in enumerate(subsets)
        ),
    )


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(dim=1).double()
