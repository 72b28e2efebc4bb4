"""Linear probes on the frozen latent, as in the benchmark papers: contact and pose of the next step."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.subsets import Subset, evenly, subset_mask


class ProbeScores(BaseModel):
    """Figures of the probes of one subset; a figure without labels is None.

    Attributes:
        subset: modalities that the posterior saw.
        samples: number of samples judged.
        contact_accuracy: fraction of right answers to whether the peg will touch.
        pose_mse: mean squared error over x, y, z in metres and yaw in radians, as the papers mix them; yaw weighs most.
        position_mse: mean squared error over x, y, z alone, in m².
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subset: Subset
    samples: int
    contact_accuracy: float | None
    pose_mse: float | None
    position_mse: float | None


class Probe:
    """Regressions of contact (logistic) and pose (ridge) on the standardised posterior means of one subset."""

    def __init__(self, means: np.ndarray, contact: np.ndarray, pose: np.ndarray) -> None:
        """Fit both regressions.

        Args:
            means: (N, L).
            contact: (N,), 0, 1 or NaN for unknown.
            pose: (N, 4), NaN for unknown.
        """
        self._contact = self._pose = None
        known = ~np.isnan(contact)
        if len(np.unique(contact[known])) == 2:
            self._contact = _fitted(LogisticRegression(max_iter=1000), means[known], contact[known])
        known = ~np.isnan(pose).any(axis=1)
        if known.any():
            self._pose = _fitted(Ridge(alpha=1.0), means[known], pose[known])

    def scores(self, subset: Subset, means: np.ndarray, contact: np.ndarray, pose: np.ndarray) -> ProbeScores:
        """Judge on other samples; arguments as for the constructor."""
        accuracy = pose_mse = position_mse = None
        known = ~np.isnan(contact)
        if self._contact is not None and known.any():
            accuracy = float((self._contact.predict(means[known]) == contact[known]).mean())
        known = ~np.isnan(pose).any(axis=1)
        if self._pose is not None and known.any():
            error = np.square(self._pose.predict(means[known]) - pose[known])
            pose_mse, position_mse = float(error.mean()), float(error[:, :3].mean())
        return ProbeScores(
            subset=subset,
            samples=len(means),
            contact_accuracy=accuracy,
            pose_mse=pose_mse,
            position_mse=position_mse,
        )


def fit_probes(
    model: MultimodalVAE, samples: Samples, subsets: Sequence[Subset], most: int | None = None
) -> dict[Subset, Probe]:
    """Fit a probe for each subset that some sample has.

    Args:
        samples: of other trajectories than those that will be judged.
        most: use at most so many samples, evenly spaced.
    """
    index = evenly(len(samples), most)
    means = posterior_means(model, samples, subsets, index)
    probes = {}
    for s, (subset, mask) in enumerate(zip(subsets, subset_mask(model.names, subsets).numpy())):
        whole = (samples.available[index] | ~mask).all(axis=1)
        if whole.any():
            rows = index[whole]
            probes[subset] = Probe(means[s, whole], samples.contact[rows], samples.pose[rows])
    return probes


def score_probes(
    model: MultimodalVAE, probes: dict[Subset, Probe], samples: Samples, most: int | None = None
) -> tuple[ProbeScores, ...]:
    """Judge each probe on the samples that have its subset."""
    index, subsets = evenly(len(samples), most), list(probes)
    means = posterior_means(model, samples, subsets, index)
    scores = []
    for s, (subset, mask) in enumerate(zip(subsets, subset_mask(model.names, subsets).numpy())):
        whole = (samples.available[index] | ~mask).all(axis=1)
        rows = index[whole]
        scores.append(probes[subset].scores(subset, means[s, whole], samples.contact[rows], samples.pose[rows]))
    return tuple(scores)


@torch.inference_mode()
def posterior_means(
    model: MultimodalVAE,
    samples: Samples,
    subsets: Sequence[Subset],
    index: np.ndarray,
    change: Callable[[Batch, Tensor], tuple[Batch, Tensor]] = lambda batch, available: (batch, available),
    batch_size: int = 128,
) -> np.ndarray:
    """Return μ of each sample from what it has of each subset, (S, N, L), float32.

    Args:
        change: applied to each batch and its mask (B, M) before the model sees them.
    """
    device = next(model.parameters()).device
    training, means = model.training, []
    model.eval()
    for rows in np.array_split(index, -(-len(index) // batch_size)):
        batch, available = change(*samples.batch(rows))
        batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
        embeddings = model.embed(batch, available)
        masks = subset_mask(model.names, subsets, device)
        means.append(torch.stack([model.fuse(embeddings, available & mask).mean for mask in masks]).cpu())
    model.train(training)
    return torch.cat(means, dim=1).numpy()


def _fitted(estimator: LogisticRegression | Ridge, means: np.ndarray, labels: np.ndarray) -> Pipeline:
    with warnings.catch_warnings():
        # The protocol is a thousand iterations, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), estimator).fit(means, labels)
