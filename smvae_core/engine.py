"""Inference for one set at a time: arrays of whatever arrived in, latent and predictions out.

>>> engine = Engine.load(None)
>>> fusion = engine.infer({"depth": depth, "force": force}, predict=["rgb"])
>>> picture = engine.modality("rgb").to_physical(fusion.predictions["rgb"])
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from smvae_core import checkpoint
from smvae_core.errors import SMVAEError
from smvae_core.evaluation import subset_mask
from smvae_core.modality import Modality

Device = Literal["auto", "cpu", "cuda"]


class EngineError(SMVAEError):
    """The engine cannot run where or on what it was asked to."""


@dataclass(frozen=True)
class Fusion:
    """What one set says.

    Attributes:
        modalities: in the set.
        mean: μ, float32 (L,).
        log_variance: log σ², float32 (L,).
        attention: weight of each modality in the set; sums to 1.
        predictions: E[x_m | z = μ], float32 (*shape), model units.
    """

    modalities: tuple[str, ...]
    mean: np.ndarray
    log_variance: np.ndarray
    attention: dict[str, float]
    predictions: dict[str, np.ndarray]


class Engine:
    """A loaded model, ready to run. One thread at a time may use it."""

    def __init__(self, loaded: checkpoint.Checkpoint, device: Device = "auto") -> None:
        self.device = torch_device(device)
        self.metadata = loaded.metadata
        self.mean = {name: x.numpy() for name, x in loaded.mean.items()}
        self._model = loaded.model.to(self.device, memory_format=torch.channels_last).eval()
        self.modalities: tuple[Modality, ...] = loaded.metadata.model.modalities
        self.latent = loaded.metadata.model.latent

    @classmethod
    def load(cls, path: str | Path | None, device: Device = "auto") -> "Engine":
        """Load a checkpoint; None takes the one that ships with the package.

        Raises:
            CheckpointError: missing, damaged, foreign or newer.
            EngineError: `cuda` was asked for and is not there.
        """
        return cls(checkpoint.load(checkpoint.default_checkpoint() if path is None else Path(path)), device)

    def modality(self, name: str) -> Modality:
        """The modality of that name.

        Raises:
            EngineError: the checkpoint has none.
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise EngineError(f"expected a modality among {[m.name for m in self.modalities]}, found '{name}'")

    def warm_up(self) -> None:
        """Run every modality in and out once, so that the first real set is not the slow one."""
        zeros = {modality.name: np.zeros(modality.shape, np.float32) for modality in self.modalities}
        for _ in range(3):
            self.infer(zeros, predict=list(zeros))

    def infer(self, arrays: Mapping[str, np.ndarray], predict: Collection[str] = ()) -> Fusion:
        """Fuse one set.

        Args:
            arrays: by modality, float32 (*shape), model units; any subset, the empty one too (it gives the prior).
            predict: modalities to predict, present or not.

        Raises:
            EngineError: an unknown modality or a wrong shape.
        """
        return self.infer_subsets(arrays, [tuple(arrays)], predict)[0]

    @torch.inference_mode()
    def infer_subsets(
        self, arrays: Mapping[str, np.ndarray], subsets: Sequence[Collection[str]], predict: Collection[str] = ()
    ) -> list[Fusion]:
        """Fuse several subsets of the same arrays, embedding each modality once.

        Raises:
            EngineError: an unknown modality, a wrong shape, or a subset that names what `arrays` lacks.
        """
        for name, array in arrays.items():
            if array.shape != self.modality(name).shape:
                raise EngineError(f"{name}: expected shape {self.modality(name).shape}, found {array.shape}")
        if missing := set().union(*subsets) - set(arrays):
            raise EngineError(f"subsets: expected modalities among {sorted(arrays)}, found {sorted(missing)}")
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(array, np.float32))[None].to(self.device)
            for name, array in arrays.items()
        }
        names = self._model.names
        embeddings = self._model.embed(batch, subset_mask(names, [tuple(arrays)], self.device))
        masks = subset_mask(names, [tuple(subset) for subset in subsets], self.device)
        posterior = self._model.fusion(embeddings.expand(len(subsets), -1, -1), masks)
        predictions = {name: x.cpu().numpy() for name, x in self._model.predict(posterior.mean, predict).items()}
        mean, log_variance, attention = (x.cpu().numpy() for x in posterior)
        return [
            Fusion(
                modalities=tuple(name for name in names if name in subset),
                mean=mean[row],
                log_variance=log_variance[row],
                attention={name: float(attention[row, m]) for m, name in enumerate(names) if name in subset},
                predictions={name: x[row] for name, x in predictions.items()},
            )
            for row, subset in enumerate(subsets)
        ]


def torch_device(device: Device) -> torch.device:
    """The device of that name; `auto` takes a GPU where there is one.

    Raises:
        EngineError: `cuda` was asked for and is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("device: 'cuda' was asked for, but torch finds none; choose 'cpu' or 'auto'")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
