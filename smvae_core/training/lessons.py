"""What memory, or the decoders, learn from alone: embeddings and posteriors of a finished model, computed once."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from smvae_core.data.corruption import Corrupted, CorruptionConfiguration, Plan
from smvae_core.data.loader import Loader
from smvae_core.model.vae import MultimodalVAE
from smvae_core.progress import progress_bar
from smvae_core.systems.posterior import Posterior

_ROWS_TOGETHER = 256
_TEACHER = "lessons.teacher."


class Lesson(NamedTuple):
    """A step's samples without their images.

    Attributes:
        clean: embeddings, (B, M, d), float32.
        seen: the same, some of them of corrupted modalities.
        target: the teacher's q(z|X), (B, L).
    """

    clean: Tensor
    seen: Tensor
    target: Posterior


class Teacher:
    """The posterior network that a run begins with, and what it says of every sample.

    The embedding networks do not learn while there is a teacher, so every sample is embedded once: as it is, and
    corrupted in each modality. Both are kept in half precision, 4 M d bytes a sample.

    Args:
        loader: of the training part.
        model: its weights are those that the run starts with.
        corruption: of the run.
        seed: of the corruption.
    """

    def __init__(self, loader: Loader, model: MultimodalVAE, corruption: CorruptionConfiguration, seed: int) -> None:
        self._loader, self._model, self._corruption, self._seed = loader, model, corruption, seed
        self._network: nn.Module = copy.deepcopy(model.fusion).eval().requires_grad_(False)
        self._clean, self._corrupted = torch.empty(0), torch.empty(0)
        modalities = model.modalities.values()
        self._chance = torch.tensor([corruption.of(m).total for m in modalities])

    def prepare(self, console: Console) -> None:
        """Embed all samples, unless it is done; the embedding networks must be in evaluation mode."""
        samples, width = self._loader.samples, self._model.width
        if len(self._clean) == len(samples):
            return
        shape = (len(samples), len(self._model.names), width)
        self._clean = torch.zeros(shape, dtype=torch.float16)
        self._corrupted = torch.zeros(shape, dtype=torch.float16) if self._corruption.active else self._clean
        parts = np.array_split(np.arange(len(samples)), -(-len(samples) // _ROWS_TOGETHER))
        with progress_bar(console) as bar, torch.no_grad():
            task = bar.add_task("embedding all samples once", total=len(parts), figures="")
            for number, (rows, (batch, available)) in enumerate(zip(parts, self._loader.batches(parts))):
                self._clean[rows] = self._model.embed(batch, available).half().cpu()
                if self._corruption.active:
                    changed = self._changed(number, batch, available.cpu())
                    self._corrupted[rows] = self._model.embed(changed.batch, available).half().cpu()
                bar.advance(task)

    def lesson(self, rows: np.ndarray, generator: torch.Generator, part: slice) -> Lesson:
        """Return what is to be learned from some samples, on the device.

        Args:
            rows: numbers of the samples of the whole batch.
            generator: of the processor; draws what is corrupted, for the whole batch.
            part: the part of `rows` that is wanted.
        """
        mine, device = torch.from_numpy(rows[part]), self._loader.device
        changed = (torch.rand(len(rows), len(self._chance), generator=generator) < self._chance)[part]
        clean = self._clean[mine]
        seen = torch.where(changed[:, :, None], self._corrupted[mine], clean)
        available = torch.from_numpy(self._loader.samples.available[rows[part]]).to(device)
        clean, seen = clean.to(device).float(), seen.to(device).float()
        with torch.no_grad():
            target: Posterior = self._network(*self._model.with_slot(clean, available))
        return Lesson(clean, seen, target)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights to save, by name."""
        return {f"{_TEACHER}{name}": x for name, x in self._network.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned; what is embedded already is forgotten."""
        self._network.load_state_dict(
            {name.removeprefix(_TEACHER): x for name, x in tensors.items() if name.startswith(_TEACHER)}
        )
        self._clean = torch.empty(0)

    def _changed(self, number: int, batch: dict[str, Tensor], available: Tensor) -> Corrupted:
        """Return a batch in which every modality is corrupted, by the kinds that the run has."""
        modalities = tuple(self._model.modalities.values())
        images, numbers = self._corruption.images.certain(), self._corruption.numbers.certain()
        always = CorruptionConfiguration(images=images, numbers=numbers)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        return Plan.draw(available, always, modalities, generator).apply(batch, modalities)
