"""The lanes of a training with memory: which samples each step has, what memory is told of them, and what it holds."""

import copy
from dataclasses import dataclass
from typing import cast

import lightning_fabric
import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.configuration import Configuration
from smvae_core.data.samples import Samples
from smvae_core.data.sequences import Sequences, windows_of_an_epoch
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.draws import Draws
from smvae_core.training.run import TrainingError

_TEACHER = "lanes.teacher."


@dataclass(eq=False)
class Window:
    """The history of B·T samples as memory learns it, those of one lane after the other.

    Attributes:
        state: before the first sample of each lane, B rows.
        elapsed: seconds since the sample before, (B, T).
        given: the degraded sets, by which memory is advanced, (B, T, M), bool.
        remembered: which samples see memory, (B·T,), bool.
    """

    state: MemoryState
    elapsed: Tensor
    given: Tensor
    remembered: Tensor


class Lanes:
    """The windows of the present epoch, and the state of memory at the end of each lane's last window.

    Args:
        samples: the training part.
        fabric: launched; each process has a part of the lanes.
        model: has a memory; its weights are those that the run starts with.
    """

    def __init__(
        self, samples: Samples, configuration: Configuration, fabric: lightning_fabric.Fabric, model: MultimodalVAE
    ) -> None:
        memory = model.memory
        assert memory is not None, "only a model with memory has lanes"
        self._samples, self._configuration, self._fabric, self._model = samples, configuration, fabric, model
        self._settings = memory.configuration
        self._teacher: nn.Module | None = None
        if configuration.sequences.latent_epochs:
            self._teacher = copy.deepcopy(model.fusion).eval().requires_grad_(False)
        self._length = configuration.sequences.length
        self._count = max(1, configuration.training.batch_size // self._length)
        if self._count < fabric.world_size:
            raise TrainingError(
                f"training.batch_size: expected at least one window of {self._length} samples for each of "
                f"{fabric.world_size} processes, found {configuration.training.batch_size}"
            )
        mine = np.array_split(np.arange(self._count), fabric.world_size)[fabric.global_rank]
        self._mine = slice(int(mine[0]), int(mine[-1]) + 1)
        self._state = memory.start(len(mine))
        self._sequences: Sequences | None = None
        self._epoch = -1

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self._samples) // (self._count * self._length))

    @property
    def part(self) -> slice:
        """The part of a step's samples that this process trains on."""
        return slice(self._mine.start * self._length, self._mine.stop * self._length)

    def teacher(self, epoch: int) -> nn.Module | None:
        """Return the posterior network of the beginning, in the epochs in which the model learns from it."""
        return self._teacher if epoch < self._configuration.sequences.latent_epochs else None

    def prepare(self, epoch: int) -> None:
        """Let the weights that learn in an epoch have gradients; while there is a teacher, batch statistics stay."""
        taught = self.teacher(epoch) is not None
        self._model.train(not taught)
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(not taught or name.startswith(("memory.", "fusion.")))

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the samples of each step of an epoch."""
        return list(self._of(epoch).index.reshape(self.steps, -1))

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
        elapsed, given = (
            torch.from_numpy(x[step][self._mine]).to(device) for x in (sequences.elapsed, sequences.given)
        )
        return Window(
            self._state, elapsed, given, torch.from_numpy(_seen(sequences, step)[self._mine].reshape(-1)).to(device)
        )

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
        teacher = {} if self._teacher is None else self._teacher.state_dict()
        return tensors | {f"{_TEACHER}{name}": x for name, x in teacher.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        hidden, present = (tensors[f"lanes.{name}"][self._mine] for name in MemoryState._fields)
        device = self._state.hidden.device
        self._state = MemoryState(hidden.to(device), present.bool().to(device))
        if self._teacher is not None:
            self._teacher.load_state_dict(
                {name.removeprefix(_TEACHER): x for name, x in tensors.items() if name.startswith(_TEACHER)}
            )

    def _of(self, epoch: int) -> Sequences:
        if self._sequences is None or self._epoch != epoch:
            configuration = self._configuration
            key, size = (configuration.training.seed, epoch), configuration.training.batch_size
            self._sequences = windows_of_an_epoch(self._samples, configuration.sequences, self._settings, size, key)
            self._epoch = epoch
        return self._sequences


def _seen(sequences: Sequences, step: int) -> np.ndarray:
    """Return which samples of a step see memory, (B, T), bool."""
    seen: np.ndarray = sequences.remembered[step] & ~sequences.absent[step][:, None]
    return seen
