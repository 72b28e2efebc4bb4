"""pictures.npz and predictions.png: some moments, spread evenly over a bag.

There are K moments, at most 24. The pixels of an image modality m of H × W pixels are in physical units: rgb is uint8
(K, H, W, 3), depth is float32 (K, H, W) in metres with 0 for no reading.

| key | | |
|---|---|---|
| `seconds` | float64 (K,) | from the bag's start (its clock) to when the set went out |
| `row` | int64 (K,) | the set's row in sets.parquet |
| `shown` | str (S,) | the inputs of predictions: `all` of the set, `without_<image>`, `without_vision` |
| `used_<shown>` | str (K,) | the input modalities, joined by `+`; empty if none was left: the pictures are then the
forecast of memory, or 0 |
| `recorded_<m>` | bool (K,) | whether the bag has a picture for that moment |
| `seen_<m>` | pixels | the picture recorded; 0 where there is none |
| `predicted_<m>_from_<shown>` | pixels | E[x_m | z = μ] |
| `uncertainty_<m>_from_<shown>` | float32 (K, H, W) | standard deviation of the prediction over 8 draws of z from the
posterior: of rgb the mean of the three channels' (0 to 255), of depth metres |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from smvae_core.inference.backend import Arrays
from smvae_core.inference.state import Recalled
from smvae_core.modality import Modality
from smvae_core.plots.sheets import depth_picture, depth_range, picture_sheet
from smvae_core.systems.posterior import Posterior
from smvae_ros.replay.inference import BatchInference

MOMENTS = 24
"""Most moments in pictures.npz."""
SHEET = 8
"""Most moments in predictions.png."""
SHEET_NAME = "predictions.png"
"""File that is written if there is an image modality."""
DRAWS = 8
"""Number of draws of z for the uncertainty."""


@dataclass(frozen=True)
class Moment:
    """A set that may become a picture.

    Attributes:
        row: row in sets.parquet.
        seconds: time from the bag's start until the set went out.
        held: arrays of the set, model units.
        truth: arrays that the bag holds for the set's moment, model units.
        recalled: memory at the set's moment; None for a model without memory.
    """

    row: int
    seconds: float
    held: Arrays
    truth: Arrays
    recalled: Recalled | None = None


class Moments:
    """Sets spread evenly over a bag whose length is not known before; at most twice `MOMENTS` are kept at a time."""

    def __init__(self) -> None:
        self._kept: list[Moment] = []
        self._spacing = 1

    def see(self, moment: Moment) -> None:
        """Keep the moment if it falls on the spacing, which doubles as the bag goes on."""
        if moment.row % self._spacing == 0:
            self._kept.append(moment)
            if len(self._kept) == 2 * MOMENTS:
                self._kept = self._kept[::2]
                self._spacing *= 2

    def chosen(self) -> list[Moment]:
        """Return at most `MOMENTS` moments, in order."""
        places = np.unique(np.linspace(0, len(self._kept) - 1, min(MOMENTS, len(self._kept))).round().astype(int))
        return [self._kept[place] for place in places]


def write_pictures(
    folder: Path, moments: Sequence[Moment], modalities: Sequence[Modality], inference: BatchInference, threads: int
) -> None:
    """Write pictures.npz and, where there is an image modality, predictions.png with some of the moments.

    The same moments and model give the same numbers, on any number of threads.
    """
    images = [modality for modality in modalities if modality.is_image]
    names = [modality.name for modality in modalities]
    shown = _shown(images)
    content: dict[str, np.ndarray] = {
        "seconds": np.array([moment.seconds for moment in moments]),
        "row": np.array([moment.row for moment in moments], np.int64),
        "shown": np.array(list(shown)),
    }
    for modality in images:
        content[f"recorded_{modality.name}"] = np.array([modality.name in moment.truth for moment in moments])
        content[f"seen_{modality.name}"] = _seen(modality, moments)
    noise = torch.randn(DRAWS, len(moments), inference.latent, generator=torch.Generator().manual_seed(0))
    sets = {
        label: [{n: x for n, x in moment.held.items() if n not in left_out} for moment in moments]
        for label, left_out in shown.items()
    }
    content |= {
        f"used_{label}": np.array(["+".join(n for n in names if n in x) for x in sets[label]]) for label in sets
    }
    recalled = [moment.recalled for moment in moments]
    remembered = [one is not None and one.age is not None for one in recalled]
    used = {label: np.array([bool(arrays) for arrays in sets[label]]) | remembered for label in sets}
    # This thread draws and writes what the others compute.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        posteriors = dict(zip(sets, pool.map(inference.posterior, sets.values(), repeat(recalled))))
        predicted = {
            f"predicted_{modality.name}_from_{label}": pool.submit(
                _predicted, modality, inference, posterior.mean, used[label]
            )
            for label, posterior in posteriors.items()
            for modality in images
        }
        uncertain = {
            f"uncertainty_{modality.name}_from_{label}": pool.submit(
                _uncertainty, modality, inference, posterior, noise, used[label]
            )
            for label, posterior in posteriors.items()
            for modality in images
        }
        content |= {key: future.result() for key, future in predicted.items()}
        if images:
            _draw_sheet(folder / SHEET_NAME, content, images)
        _save(folder / "pictures.npz", content, uncertain)


def _save(path: Path, content: Mapping[str, np.ndarray], to_come: Mapping[str, Future[np.ndarray]]) -> None:
    """Write a file as `np.savez` does, each array as soon as it is computed.

    Compression would make it a quarter smaller and take seven times as long.
    """
    with ZipFile(path, "w") as archive:
        for key, array in chain(content.items(), ((key, future.result()) for key, future in to_come.items())):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _seen(modality: Modality, moments: Sequence[Moment]) -> np.ndarray:
    """Return the recorded pictures, 0 where there is none."""
    blank = np.zeros_like(modality.to_physical(np.zeros(modality.shape, np.float32)))
    truths = [moment.truth.get(modality.name) for moment in moments]
    return np.stack([blank if truth is None else modality.to_physical(truth) for truth in truths])


def _predicted(modality: Modality, inference: BatchInference, mean: Tensor, used: np.ndarray) -> np.ndarray:
    """Return E[x_m | z] of the means (K, L), physical units; 0 where nothing was `used` (K,)."""
    predicted = inference.predict(mean, modality.name)
    predicted[~used] = 0.0
    return np.stack([modality.to_physical(x) for x in predicted])


def _uncertainty(
    modality: Modality, inference: BatchInference, posterior: Posterior, noise: Tensor, used: np.ndarray
) -> np.ndarray:
    """Return the standard deviation over z drawn with noise (DRAWS, K, L), physical units, float32 (K, H, W)."""
    drawn = torch.cat([posterior.sample(draw.to(posterior.mean.device)) for draw in noise])
    draws = inference.predict(drawn, modality.name).reshape(DRAWS, len(used), *modality.shape)
    deviation = draws.std(axis=0).mean(axis=1) * _unit(modality)
    deviation[~used] = 0.0
    return np.asarray(deviation, np.float32)


def _draw_sheet(path: Path, content: dict[str, np.ndarray], images: Sequence[Modality]) -> None:
    places = np.unique(np.linspace(0, len(content["row"]) - 1, SHEET).round().astype(int))
    rows: dict[str, list[np.ndarray]] = {}
    for modality in images:
        name = modality.name
        of_modality = {f"camera saw: {name}": content[f"seen_{name}"][places]}
        for label in content["shown"].tolist():
            words = "all" if label == "all" else f"all {label.replace('_', ' ')}"
            of_modality[f"{name} predicted from\n{words}"] = content[f"predicted_{name}_from_{label}"][places]
        if modality.preprocessing.kind == "depth":
            limits = depth_range(content[f"seen_{name}"])
            rows |= {label: [depth_picture(x, *limits) for x in metres] for label, metres in of_modality.items()}
        else:
            rows |= {label: list(x) for label, x in of_modality.items()}
    picture_sheet(path, rows, [f"{seconds:.1f} s" for seconds in content["seconds"][places]])


def _shown(images: Sequence[Modality]) -> dict[str, set[str]]:
    """Return by label the modalities that are left out of the sets."""
    if not images:
        return {}
    shown: dict[str, set[str]] = {"all": set()}
    if len(images) > 1:
        shown |= {f"without_{modality.name}": {modality.name} for modality in images}
    return shown | {"without_vision": {modality.name for modality in images}}


def _unit(modality: Modality) -> float:
    """Return the physical value of 1 in model units."""
    preprocessing = modality.preprocessing
    return preprocessing.max_depth if preprocessing.kind == "depth" else 255.0
