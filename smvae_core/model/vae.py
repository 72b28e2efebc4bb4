"""The multimodal VAE: embed each modality, fuse the set, sample, decode every modality.

>>> model = MultimodalVAE(ModelConfiguration(size="compact"))
>>> posterior = model.posterior({"depth": depth, "force": force}, mask)      # any subset, any mask
>>> images = model.predict(posterior.mean, ["rgb"])["rgb"]                   # (B, 3, 64, 64)
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.model.batch_norm import statistics_of
from smvae_core.model.likelihood import expectation
from smvae_core.model.memory import Memory, MemoryConfiguration, MemoryState, Remembered
from smvae_core.model.networks import SIZES, decoder, embedding_network
from smvae_core.systems.posterior import Posterior, at_least_single
from smvae_core.systems.registry import find_system

Batch = dict[str, Tensor]
"""Modality name to (B, *shape), float32, model units. A modality absent from the whole batch may be left out."""

_NO_MODULES = nn.ModuleDict()


class BatchError(SMVAEError):
    """A batch or its mask does not fit the model."""


class ModelConfiguration(BaseModel):
    """Everything that is needed to build a model.

    Attributes:
        system: a name of `systems.registry.SYSTEMS`: which paper's posterior and objective.
        size: widths of the networks: the paper's, compact for processors, tiny for tests.
        latent: dimensions of z.
        modalities: in the order of the columns of every availability mask.
        memory: of the sets before; None, or `none` in YAML, for a model of single sets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = "smvae"
    size: Literal["paper", "compact", "tiny"] = "paper"
    latent: PositiveInt = 64
    modalities: tuple[Modality, ...] = vision_touch_modalities()
    memory: MemoryConfiguration | None = None

    @field_validator("system")
    @classmethod
    def _system_exists(cls, system: str) -> str:
        find_system(system)
        return system

    @field_validator("memory", mode="before")
    @classmethod
    def _none_by_name(cls, memory: object) -> object:
        return None if memory == "none" else memory

    @model_validator(mode="after")
    def _system_can_have_memory(self) -> "ModelConfiguration":
        reason = find_system(self.system).memory
        if self.memory is not None and isinstance(reason, str):
            raise ValueError(f"expected memory 'none' for system '{self.system}', found a memory: {reason}")
        return self

    @field_validator("modalities")
    @classmethod
    def _names_differ(cls, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        names = [modality.name for modality in modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected at least one modality and each name once, found {names}")
        # Networks are held in a ModuleDict by the modality's name, as its attributes.
        if taken := [name for name in names if hasattr(_NO_MODULES, name)]:
            raise ValueError(f"expected names that torch's modules do not have as attributes, found {taken}")
        return modalities


class MultimodalVAE(nn.Module):
    """A model that takes any set of modalities to one latent, and predicts every modality from it.

    Attributes:
        configuration: as given.
        system: of the configuration; `fusion` is its posterior network.
        modalities: by name, in the order of the mask's columns.
        memory: the memory of the sets before, or None. It is one more member of the sets that `fusion` takes.
        width: dimensions of one embedding, d.
    """

    def __init__(self, configuration: ModelConfiguration) -> None:
        super().__init__()
        self.configuration = configuration
        self.modalities = {modality.name: modality for modality in configuration.modalities}
        sizes = SIZES[configuration.size]
        self.embeddings = nn.ModuleDict({n: embedding_network(m, sizes) for n, m in self.modalities.items()})
        self.system = find_system(configuration.system)
        settings, latent = configuration.memory, configuration.latent
        has_memory = settings is not None
        self.fusion: nn.Module = self.system.network(self.names, sizes.embedding, latent, sizes.heads, has_memory)
        self.decoders = nn.ModuleDict({n: decoder(m, configuration.latent, sizes) for n, m in self.modalities.items()})
        # Last, so that a seed gives the other networks the weights that they have in a model without memory.
        self.memory = None if settings is None else Memory(settings, len(self.names), sizes.embedding, latent)
        self.width = sizes.embedding

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the mask's columns."""
        return tuple(self.modalities)

    def embed(self, batch: Batch, mask: Tensor) -> Tensor:
        """Return E_i(x_i) of what is present (Eq. 7), zeros elsewhere: (B, M, d).

        Absent rows never reach a network, so their values can neither enter the batch statistics nor spread. A mask on
        the processor saves a batch on a GPU from waiting for the counts of rows.

        Raises:
            BatchError: an unknown modality, a wrong shape, type or device, or a present modality without data.
        """
        self._check(batch, mask)
        weight = next(self.parameters())
        device, dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)
        embeddings = []
        for name, present in zip(self.names, mask.cpu().unbind(dim=1)):
            embedding = torch.zeros(len(mask), self.width, device=device, dtype=dtype)
            rows = present.nonzero()[:, 0]
            if name in batch and len(rows) == len(mask):
                embedding = self.embeddings[name](batch[name])
            # In training the network is called even without a row: the processes of a run wait inside for each other.
            elif name in batch and (self.training or len(rows)):
                rows = rows.to(device, non_blocking=True)
                embedding = embedding.index_put((rows,), self.embeddings[name](batch[name][rows]).to(dtype))
            embeddings.append(embedding)
        return torch.stack(embeddings, dim=1)

    def embed_masked(self, batch: Batch, mask: Tensor) -> Tensor:
        """Return what `embed` returns, from networks that see every row, with zeros in the absent ones: (B, M, d).

        Batch statistics leave the absent rows out. No shape depends on the mask, which stays on the model's device, so
        that a GPU can record this as a graph.

        Args:
            batch: every modality; the values of absent slots have no influence, not even NaN.
            mask: (B, M), bool, on the model's device.
        """
        embeddings = []
        for name, present in zip(self.names, mask.unbind(dim=1)):
            x = torch.where(present.view(-1, *[1] * len(self.modalities[name].shape)), batch[name], 0.0)
            with statistics_of(self.embeddings[name], present):
                embedding = self.embeddings[name](x)
            embeddings.append(torch.where(present[:, None], at_least_single(embedding), 0.0))
        return torch.stack(embeddings, dim=1)

    def posterior(self, batch: Batch, mask: Tensor) -> Posterior:
        """Return q(z | X_s) of each row's set.

        Args:
            batch: the observations; the values of absent slots are never read.
            mask: (B, M), bool, columns in the order of `names`.

        Raises:
            BatchError: as `embed`.
        """
        embeddings = self.embed(batch, mask)
        return self.fuse(embeddings, mask.to(embeddings.device, non_blocking=True))

    def step(self, batch: Batch, mask: Tensor, state: MemoryState, elapsed: Tensor) -> tuple[Posterior, MemoryState]:
        """Return q(z | X_s, h) of each row's set and memory, and the memory after it.

        The empty set gives the forecast q(z | {h}), and N(0, I) where nothing is remembered.

        Args:
            batch: as of `posterior`.
            mask: as of `posterior`.
            state: of each row; `memory.start(rows)` remembers nothing.
            elapsed: seconds since the set that gave `state`, (B,). Memory forgets what is older than its horizon.

        Raises:
            BatchError: as `embed`; a model without memory; a state of another model, batch or device.
        """
        memory = self.check_state(state, elapsed, len(mask))
        embeddings = self.embed(batch, mask)
        mask = mask.to(embeddings.device, non_blocking=True)
        posterior = self.fuse(embeddings, mask, memory.recall(state, elapsed))
        return posterior, memory.advance(state, elapsed, posterior, mask)

    def fuse(self, embeddings: Tensor, mask: Tensor, remembered: Remembered | None = None) -> Posterior:
        """Return the posterior of sets of embedded modalities, and of what is remembered.

        Args:
            embeddings: from `embed`, (B, M, d).
            mask: (..., B, M), bool, on the model's device. With more dimensions than two, several sets of each row.
            remembered: from `memory.recall`, of the same rows; None leaves memory out of every set.
        """
        posterior: Posterior = self.fusion(*self.with_slot(embeddings, mask, remembered))
        return posterior

    def with_slot(
        self, embeddings: Tensor, mask: Tensor, remembered: Remembered | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `fusion` takes: embeddings and mask of `fuse`, with the slot of memory if the model has one."""
        if self.memory is None:
            return embeddings, mask
        if remembered is None:
            slot, present = torch.zeros_like(embeddings[:, 0]), torch.zeros_like(mask[..., 0])
        else:
            slot, present = remembered.embedding.to(embeddings.dtype), remembered.present.expand(mask.shape[:-1])
        return torch.cat([embeddings, slot[:, None]], dim=1), torch.cat([mask, present[..., None]], dim=-1)

    def decode(self, z: Tensor, names: Iterable[str] | None = None) -> Batch:
        """Return likelihood parameters (B, *shape) of the named modalities, by default all, from z (B, L).

        Raises:
            BatchError: an unknown modality, or another shape or type of z.
        """
        names, weight = self.names if names is None else tuple(names), next(self.parameters())
        if unknown := set(names) - set(self.names):
            raise BatchError(f"decode: expected modalities among {list(self.names)}, found {sorted(unknown)}")
        latent = self.configuration.latent
        if z.ndim != 2 or z.shape[1] != latent or not _fits(z, weight):
            raise BatchError(f"z: expected {weight.dtype} (B, {latent}), found {z.dtype} {tuple(z.shape)}")
        return {name: self.decoders[name](z) for name in names}

    def predict(self, z: Tensor, names: Iterable[str] | None = None) -> Batch:
        """Return E[x_m | z] of the named modalities, by default all, from z (B, L), in model units.

        Raises:
            BatchError: as `decode`.
        """
        return {name: expectation(self.modalities[name], x) for name, x in self.decode(z, names).items()}

    def check(self, batch: Batch, rows: int) -> None:
        """Check that each entry of a batch has the shape (rows, *shape) and the type of the model's weights.

        Raises:
            BatchError: an unknown modality, or another shape or type.
        """
        if unknown := set(batch) - set(self.names):
            raise BatchError(f"batch: expected modalities among {list(self.names)}, found {sorted(unknown)}")
        weight = next(self.parameters())
        for name, x in batch.items():
            shape = (rows, *self.modalities[name].shape)
            if tuple(x.shape) != shape:
                raise BatchError(f"batch: {name} expected shape {shape}, found {tuple(x.shape)}")
            if not _fits(x, weight):
                raise BatchError(f"batch: {name} expected {weight.dtype} in model units, found {_type_of(x)}")

    def check_state(self, state: MemoryState, elapsed: Tensor, rows: int) -> Memory:
        """Return the memory, after checking that a state and a time belong to it.

        Raises:
            BatchError: a model without memory; a state or a time of another shape, type or device.
        """
        if self.memory is None:
            raise BatchError("memory: expected none, since the model was made without, found a state")
        device = next(self.parameters()).device
        size = self.memory.configuration.size
        for name, x, shape in (("hidden", state.hidden, (rows, size)), ("elapsed", elapsed, (rows,))):
            if tuple(x.shape) != shape or not x.is_floating_point() or x.device != device:
                raise BatchError(
                    f"memory: {name} expected floats {shape} on {device}, found {_type_of(x)} {tuple(x.shape)} on "
                    f"{x.device}; a state belongs to one model, batch and device"
                )
        return self.memory

    def _check(self, batch: Batch, mask: Tensor) -> None:
        if mask.ndim != 2 or mask.shape[1] != len(self.names) or mask.dtype != torch.bool:
            raise BatchError(
                f"mask: expected torch.bool (B, {len(self.names)}), found {_type_of(mask)} {tuple(mask.shape)}"
            )
        self.check(batch, len(mask))
        device = next(self.parameters()).device
        for column, name in enumerate(self.names):
            if name not in batch and bool(mask[:, column].any()):
                raise BatchError(f"batch: {name} is present by the mask, but the batch has no such entry")
            if name in batch and batch[name].device != device:
                raise BatchError(f"batch: {name} expected on {device} as the model, found on {batch[name].device}")


def _fits(x: Tensor, weight: Tensor) -> bool:
    """Return whether networks with such weights take x; mixed precision casts by itself."""
    mixed = torch.is_autocast_enabled(weight.device.type)
    return x.dtype == weight.dtype or (mixed and isinstance(x, Tensor) and x.is_floating_point())


def _type_of(x: object) -> str:
    return str(x.dtype) if isinstance(x, Tensor) else f"a {type(x).__module__}.{type(x).__name__}"
