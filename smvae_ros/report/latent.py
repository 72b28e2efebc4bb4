"""The latent means in the plane: at most `POINTS` points, evenly spaced in the bag."""

from __future__ import annotations

from typing import Any

import numpy as np

from smvae_ros.report.results import Sets

POINTS = 1500
"""Most points; more would take t-SNE longer than some seconds."""

PERPLEXITY = 30.0

CONTACT_NEWTONS = 2.0
"""Force beyond which the page says contact; the reader can change it. Bags hold no label of contact."""


def latent_plane(sets: Sets, force: str | None) -> dict[str, Any]:
    """Return the places of the points by principal components and by t-SNE, and the values that colour them.

    Args:
        force: modality whose first three values are a force in newtons; None if there is none.
    """
    rows = np.linspace(0, len(sets.seconds) - 1, min(POINTS, len(sets.seconds))).round().astype(int)
    subsets = sets.subsets()
    ordered = sorted(set(subsets), key=lambda subset: (-int(np.sum(subsets == subset)), subset))
    places, explained = _principal(sets.mean, rows)
    return {
        "seconds": _short(sets.seconds[rows], 2),
        "pca": {"x": _short(places[:, 0]), "y": _short(places[:, 1]), "explained": _short(explained)},
        "tsne": _tsne(sets.mean[rows]),
        "newtons": _newtons(sets, force, rows),
        "contact_newtons": CONTACT_NEWTONS,
        "subsets": ordered,
        "subset": [ordered.index(subset) for subset in subsets[rows]],
    }


def _principal(mean: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `rows` of `mean`, (N, L), along its two principal components, (rows, 2), and the shares of variance."""
    centred = mean - mean.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / max(len(mean) - 1, 1))
    axes = axes[:, ::-1][:, :2]
    # The sign of an axis is arbitrary: the largest entry is made positive, so that the same bag always looks the same.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    places = np.zeros((len(rows), 2))
    places[:, : axes.shape[1]] = centred[rows] @ axes
    explained = np.zeros(2)
    explained[: axes.shape[1]] = variances[::-1][:2] / max(float(variances.sum()), 1e-30)
    return places, explained


def _tsne(mean: np.ndarray) -> dict[str, list[float]] | None:
    """Return the t-SNE of (P, L); None if the points are too few to have neighbours."""
    if len(mean) < 10 or np.ptp(mean, axis=0).max() == 0:
        return None
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(mean) - 1) / 3)
    # With a wider angle and an earlier end than usual it takes half the time and keeps the neighbours as well: of the
    # shipped recording a trustworthiness of 0.982 instead of 0.983, and a divergence of 0.64 instead of 0.62.
    projection = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1, angle=0.8, min_grad_norm=2e-3)
    places = projection.fit_transform(mean.astype(np.float32))
    return {"x": _short(places[:, 0]), "y": _short(places[:, 1])}


def _newtons(sets: Sets, force: str | None, rows: np.ndarray) -> list[float | None]:
    if force is None:
        return [None] * len(rows)
    # The recorded force; where the sensor was out, the force predicted from the other modalities.
    values = np.where(np.isnan(sets.seen[force]), sets.predicted[force], sets.seen[force])
    magnitude = np.linalg.norm(values[rows, :3], axis=1)
    return [None if np.isnan(value) else round(float(value), 2) for value in magnitude]


def _short(values: np.ndarray, digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in values]
