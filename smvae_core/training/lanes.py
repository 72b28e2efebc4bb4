"""The lanes of a training with memory: which samples each step has, what memory is told of them, and what it holds."""

from dataclasses import dataclass
from typing import Literal, cast

import lightning_fabric
import numpy as np
import torch
from torch import Tensor

from smvae_core.configuration import Configuration
from smvae_core.data.samples import Samples
from smvae_core.data.sequences import Sequences, windows_of_an_epoch
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.draws import Draws
from smvae_core.training.run import TrainingError

Learning = Literal["memory", "decoders", "everything"]
"""What learns in an epoch: memory and the posterior network from a teacher, the decoders from latents, or all."""

_LATENT_BATCH = "sequences.latent_batch_size"
_PREFIXES: dict[Learning, tuple[str, ...]] = {
    "memory": ("memory.", "fusion."),
    "decoders": ("decoders.",),
    "everything": ("",),
}


@dataclass(eq=False)
class Window:
    """The history of B·T samples as memory learns it, those of one lane after the other.

    Attributes:
        state: before the first sample of each lane, B rows.
        elapsed: seconds since the sample before, (B, T).
        given: the degraded sets, by which memory is advanced, (B, T, M), bool.
        remembered: which samples see memory, (B·T,), bool.
        earlier: of each sample one at or before it in its window, (B, T), and the seconds since the one before that.
    """

    state: MemoryState
    elapsed: Tensor
    given: Tensor
    remembered: Tensor
    earlier: tuple[Tensor, Tensor]


class Lanes:
    """The windows of the present epoch, and the state of memory at the end of each lane's last window.

    Args:
        samples: the training part.
        fabric: launched; each process has a part of the lanes.
        model: has a memory.
    """

    def __init__(
        self, samples: Samples, configuration: Configuration, fabric: lightning_fabric.Fabric, model: MultimodalVAE
    ) -> None:
        memory = model.memory
        assert memory is not None, "only a model with memory has lanes"
        self._samples, self._configuration, self._fabric, self._model = samples, configuration, fabric, model
        self._memory, self._length = memory, configuration.sequences.length
        for key, epoch in (("training.batch_size", configuration.sequences.latent_epochs), (_LATENT_BATCH, 0)):
            if self._lanes(epoch) < fabric.world_size:
                raise TrainingError(
                    f"{key}: expected at least one window of {self._length} samples for each of {fabric.world_size} "
                    f"processes, found {self._batch_size(epoch)}"
                )
        self._start(0)
        self._sequences: Sequences | None = None
        self._epoch = -1

    def steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return -(-len(self._samples) // (self._lanes(epoch) * self._length))

    @property
    def part(self) -> slice:
        """The part of a step's samples that this process trains on."""
        return slice(self._mine.start * self._length, self._mine.stop * self._length)

    def prepare(self, epoch: int) -> None:
        """Let the weights that learn in an epoch have gradients; unless all do, batch statistics stay.

        Where the number of lanes changes, all of them forget.
        """
        learning, decoders = self.learning(epoch), self._configuration.sequences.decoders
        prefixes = _PREFIXES[learning]
        if learning == "decoders" and decoders:
            prefixes = tuple(f"decoders.{name}." for name in decoders)
        self._model.train(learning == "everything")
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))
        if self._count != self._lanes(epoch):
            self._start(epoch)

    def learning(self, epoch: int) -> Learning:
        """Return what learns in an epoch."""
        settings = self._configuration.sequences
        if epoch < settings.latent_epochs:
            return "memory"
        return "decoders" if epoch < settings.latent_epochs + settings.decoder_epochs else "everything"

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the samples of each step of an epoch."""
        return list(self._of(epoch).index.reshape(self.steps(epoch), -1))

    def with_memory(self, draws: Draws, epoch: int, step: int, generator: torch.Generator) -> Draws:
        """Return the draws of a step's samples with memory in some of the sets."""
        sequences = self._of(epoch)
        remembered = torch.from_numpy(_seen(sequences, step).reshape(-1))
        given = torch.from_numpy(sequences.given[step].reshape(len(remembered), -1))
        add = self._model.system.memory
        assert not isinstance(add, str), "the configuration refuses memory for such systems"
        return add(self._configuration.objective, draws, remembered, given, generator)

    def window(self, epoch: int, step: int) -> Window:
        """Return this process's part of a step's window, on the device, except `remembered`."""
        sequences, device = self._of(epoch), self._state.hidden.device
        elapsed, given, earlier, since = (
            torch.from_numpy(x[step][self._mine]).to(device)
            for x in (sequences.elapsed, sequences.given, sequences.earlier, sequences.since)
        )
        remembered = torch.from_numpy(_seen(sequences, step)[self._mine].reshape(-1)).to(device)
        return Window(self._state, elapsed, given, remembered, (earlier, since))

    def keep(self, state: MemoryState) -> None:
        """Go on from the state at the end of a window."""
        self._state = state.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of all lanes by name, to be saved. A collective call."""
        tensors: dict[str, Tensor] = {}
        for name, x in self._state._asdict().items():
            whole = torch.zeros((self._count, *x.shape[1:]), device=x.device)
            whole[self._mine] = x.float()
            tensors[f"lanes.{name}"] = cast(Tensor, self._fabric.all_reduce(whole, reduce_op="sum"))
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        self._share(len(tensors["lanes.hidden"]))
        hidden, present = (tensors[f"lanes.{name}"][self._mine] for name in MemoryState._fields)
        device = self._state.hidden.device
        self._state = MemoryState(hidden.to(device), present.bool().to(device))

    def _batch_size(self, epoch: int) -> int:
        """Return the samples of a step of an epoch."""
        own, others = self._configuration.sequences.latent_batch_size, self._configuration.training.batch_size
        return own if own and self.learning(epoch) == "memory" else others

    def _lanes(self, epoch: int) -> int:
        return max(1, self._batch_size(epoch) // self._length)

    def _start(self, epoch: int) -> None:
        """Begin an epoch with lanes that remember nothing."""
        self._share(self._lanes(epoch))
        self._state = self._memory.start(self._mine.stop - self._mine.start)

    def _share(self, count: int) -> None:
        """Take this process's part of `count` lanes."""
        mine = np.array_split(np.arange(count), self._fabric.world_size)[self._fabric.global_rank]
        self._count, self._mine = count, slice(int(mine[0]), int(mine[-1]) + 1)

    def _of(self, epoch: int) -> Sequences:
        if self._sequences is None or self._epoch != epoch:
            configuration = self._configuration
            key, settings = (configuration.training.seed, epoch), self._memory.configuration
            self._sequences = windows_of_an_epoch(
                self._samples, configuration.sequences, settings, self._batch_size(epoch), key
            )
            self._epoch = epoch
        return self._sequences


def _seen(sequences: Sequences, step: int) -> np.ndarray:
    """Return which samples of a step see memory, (B, T), bool."""
    seen: np.ndarray = sequences.remembered[step] & ~sequences.absent[step][:, None]
    return seen
