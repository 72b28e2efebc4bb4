"""Back ends: ways to run a trained model on one set at a time. The engine measures them and takes the fastest.

PyTorch's own is here; `onnx_runtime` holds ONNX Runtime's, `cuda_graph` the one for GPUs.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from smvae_core.device import arithmetic
from smvae_core.errors import SMVAEError
from smvae_core.inference.state import Recalled, RecallingFusion, nothing
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.subsets import judged_subsets

TOLERANCE = 1e-4
"""How far a back end in single precision may lie from eager: absolute below 1, relative above."""

TF32_TOLERANCE = 2e-2
"""The same with TF32, whose factors have 10 bits of mantissa."""

HALF_TOLERANCE = 2e-2
"""The same in half precision."""

Arrays = Mapping[str, np.ndarray]
"""Modality name to float32 (*shape), model units."""

Name = TypeVar("Name", bound=str)


class BackendError(SMVAEError):
    """A back end that is not installed, cannot run this model, or does not agree with eager."""


class Outputs(NamedTuple):
    """The model's outputs for S subsets of the same arrays, all float32.

    Attributes:
        mean: μ, (S, L).
        log_variance: log σ², (S, L).
        attention: (S, M), 0 where absent; of a model with memory (S, M + 1), memory last.
        predictions: E[x_m | z = μ], (S, *shape), model units, of the modalities that were asked for.
        hidden: h of the memory after the set, (S, H); None for a model without memory.
        embeddings: of the modalities that a subset has, (M, d), zeros elsewhere; (M + 1, d) from a back end that gives
            that of memory, too. None from a graph without them.
    """

    mean: np.ndarray
    log_variance: np.ndarray
    attention: np.ndarray
    predictions: dict[str, np.ndarray]
    hidden: np.ndarray | None = None
    embeddings: np.ndarray | None = None


class Backend(Protocol):
    """A model, ready to run."""

    def run(
        self, arrays: Arrays, masks: np.ndarray, predict: Collection[str], recalled: Recalled | None = None
    ) -> Outputs:
        """Fuse S subsets of the same arrays.

        Args:
            arrays: at least what the masks call present.
            masks: (S, M), bool, columns in the order of the model's modalities.
            predict: modalities to predict.
            recalled: memory, one for all subsets; None: nothing is remembered.
        """
        ...


class TorchBackend:
    """PyTorch, operation by operation, on any device and in either memory format.

    Args:
        model: moved to the device, in evaluation mode.
        device: where it runs.
        memory_format: of the weights.
        tf32: whether a GPU may use TF32.
    """

    def __init__(
        self, model: MultimodalVAE, device: torch.device, memory_format: torch.memory_format, tf32: bool = False
    ) -> None:
        self.model = model.to(device).eval()
        self.model.to(memory_format=memory_format)  # type: ignore[call-overload]  # missing in torch's types
        self._device, self._tf32 = device, tf32
        self._recalling = RecallingFusion(self.model) if self.model.memory is not None else None

    @torch.inference_mode()
    def run(
        self, arrays: Arrays, masks: np.ndarray, predict: Collection[str], recalled: Recalled | None = None
    ) -> Outputs:
        """Fuse as `Backend.run` says; absent modalities are not embedded, predictions not asked for not decoded."""
        available = torch.from_numpy(masks)
        present = available.any(dim=0)
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(arrays[name], np.float32))[None].to(self._device)
            for name, wanted in zip(self.model.names, present.tolist())
            if wanted
        }
        with arithmetic(self._device, self._tf32):
            embeddings = self.model.embed(batch, present[None]).expand(len(masks), -1, -1)
            mask, hidden = available.to(self._device), None
            if self._recalling is None:
                posterior = self.model.fusion(embeddings, mask)
            else:
                recalled = recalled or nothing(self._recalling.memory.configuration)
                posterior, hidden = self._recalling.step(embeddings, mask, recalled)
            predictions = self.model.predict(posterior.mean, predict)
        mean, log_variance, attention = (x.cpu().numpy() for x in posterior)
        return Outputs(
            mean,
            log_variance,
            attention,
            {name: x.cpu().numpy() for name, x in predictions.items()},
            None if hidden is None else hidden.cpu().numpy(),
            embeddings[0].cpu().numpy(),
        )


def trial(configuration: ModelConfiguration) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return arrays of noise in [0, 1), always the same, and masks of `judged_subsets`, and last of the empty set."""
    random = np.random.default_rng(0)
    arrays = {modality.name: random.random(modality.shape, np.float32) for modality in configuration.modalities}
    subsets = [*judged_subsets(list(arrays)), ()]
    return arrays, np.array([[name in subset for name in arrays] for subset in subsets])


def trial_memory(configuration: ModelConfiguration) -> list[Recalled | None]:
    """Return what memory may hold in a trial: nothing, and, where the model has memory, noise in [0, 1)."""
    if configuration.memory is None:
        return [None]
    hidden = np.random.default_rng(1).random(configuration.memory.size, np.float32)
    seconds = 0.1 * configuration.memory.horizon
    return [None, Recalled(hidden, age=seconds, elapsed=seconds)]


def disagreement(
    backend: Backend,
    eager: Backend,
    arrays: Arrays,
    masks: np.ndarray,
    memories: Sequence[Recalled | None] = (None,),
) -> float:
    """Return the largest `difference` between two back ends, run set by set with each memory, everything predicted."""
    pairs = (
        (one.run(arrays, mask[None], list(arrays), recalled) for one in (backend, eager))
        for mask in masks
        for recalled in memories
    )
    return float(np.max([difference(*pair) for pair in pairs]))


def difference(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of any entry: absolute where the expected is below 1, relative above; or NaN."""
    pairs = [*zip(found[:3], expected[:3]), *((x, expected.predictions[n]) for n, x in found.predictions.items())]
    if found.hidden is not None and expected.hidden is not None:
        pairs.append((found.hidden, expected.hidden))
    return float(np.max([np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b))) for a, b in pairs]))


def measure(
    backends: Mapping[Name, Backend], configuration: ModelConfiguration, rounds: int = 10, seconds: float = 0.6
) -> dict[Name, float]:
    """Return the seconds that each back end takes for one whole set with everything predicted: the least of the rounds.

    The least, since a busy machine only ever adds time. The back ends take turns, so that it adds to all alike.

    Args:
        backends: what is measured.
        configuration: of the model.
        rounds: most rounds.
        seconds: no round but the first begins later than this.
    """
    arrays, masks = trial(configuration)
    least = {name: float("inf") for name in backends}
    for backend in backends.values():
        backend.run(arrays, masks[:1], list(arrays))
    begin = time.perf_counter()
    for _ in range(rounds):
        for name, backend in backends.items():
            started = time.perf_counter()
            backend.run(arrays, masks[:1], list(arrays))
            least[name] = min(least[name], time.perf_counter() - started)
        if time.perf_counter() - begin > seconds:
            break
    return least
