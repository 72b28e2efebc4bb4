"""The networks of trust as graphs of ONNX Runtime: a set is judged in a fraction of the time that PyTorch takes.

The posteriors of a set's contexts are computed once. They are kept with the set, since the sets of the next half second
are compared with them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smvae_core.inference.backend import BackendError
from smvae_core.inference.folded_attention import folded_fusion
from smvae_core.inference.onnx_runtime import onnx_memory, session, to_onnx
from smvae_core.inference.state import Recalled
from smvae_core.inference.trust import Numbers, Seen
from smvae_core.modality import Modality
from smvae_core.model.memory import Memory, MemoryState, Remembered
from smvae_core.model.traits import trait_count, traits_of_one
from smvae_core.model.trust import STILL, TrustNetwork

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]


class TrustGraph:
    """A judge (`inference.trust.Judge`) that gives what `TrustNetwork.forward` gives.

    Args:
        fusion: the posterior network of the model.
        network: of trust.
        slots: columns of the posterior network: the modalities, and memory if the model has it.
        width: of an embedding.
        traits: of a modality; the heads may see fewer.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the networks.
    """

    def __init__(self, fusion: nn.Module, network: TrustNetwork, slots: int, width: int, traits: int) -> None:
        m, latent = network.modalities, len(network.context_scale)
        pairs = network.pairs()
        self._modalities, self._traits = m, network.traits
        # (P, C): what stays in each context.
        self._kept = np.ones((len(pairs), slots), bool)
        for row, pair in enumerate(pairs):
            self._kept[row, list(pair)] = False
        tell = {"embeddings": torch.zeros(1, slots, width), "given": torch.ones(len(pairs), slots, dtype=torch.bool)}
        self._tell = session(to_onnx(_Contexts(fusion), tell, ["mean", "log_variance"], free=["given"]))
        seen = {
            "now": torch.zeros(m, width),
            "others": torch.zeros(m, 2, width),
            "known": torch.ones(m, 2, 1, dtype=torch.bool),
        }
        if network.traits:
            seen |= {
                "traits": torch.zeros(m, network.traits),
                "other_traits": torch.zeros(m, 2, network.traits),
            }
        told = {
            "mean": torch.zeros(1, len(pairs), latent),
            "log_variance": torch.zeros(1, len(pairs), latent),
            "past": torch.zeros(1, len(pairs), latent),
            "there": torch.ones(1, len(pairs), 2, dtype=torch.bool),
            "present": torch.ones(1, m, dtype=torch.bool),
        }
        self._judge = session(to_onnx(_Heads(network, traits=network.traits), seen | told, ["logits"], free=list(told)))

    def __call__(self, now: Seen, before: Seen | None, past: Seen | None, allowed: Booleans) -> Numbers:
        """Return the logits of the hypotheses, (R, 1 + M), float64."""
        m = self._modalities
        rows = now.mask & allowed
        given = rows[:, None] & self._kept
        mean, log_variance = self._told(now, rows, given)
        empty = np.zeros_like(now.embeddings[:m])
        inputs: dict[str, Any] = {
            "now": now.embeddings[:m],
            "others": _pair([empty if one is None else one.embeddings[:m] for one in (before, past)]),
            "known": _pair([_mask(one, m) & now.mask[:m] for one in (before, past)])[..., None],
            "mean": mean,
            "log_variance": log_variance,
            "present": rows[:, :m],
        }
        if self._traits:
            without = np.zeros_like(now.traits)
            other = _pair([without if one is None else one.traits for one in (before, past)])
            inputs |= {"traits": now.traits[:, : self._traits], "other_traits": other[..., : self._traits]}
        there = np.zeros((*given.shape[:2], 2), bool)
        there[..., 1] = given.any(axis=-1)
        inputs["past"] = np.zeros_like(mean)
        if past is not None:
            rows = past.mask & allowed
            given = rows[:, None] & self._kept
            there[..., 0] = given.any(axis=-1)
            inputs["past"] = self._told(past, rows, given)[0]
        inputs["there"] = there
        logits: Numbers = self._judge.run(None, inputs)[0].astype(np.float64)
        return logits

    def _told(self, seen: Seen, rows: Booleans, given: Booleans) -> tuple[Floats, Floats]:
        """Return mean and log variance of every context of each row, (R, P, L), from what was computed before."""
        keys = [row.tobytes() for row in rows]
        missing = [n for n, key in enumerate(keys) if key not in seen.told]
        if missing:
            contexts = given[missing].reshape(-1, given.shape[-1])
            mean, log_variance = self._tell.run(None, {"embeddings": seen.embeddings[None], "given": contexts})
            size = len(self._kept)
            for place, n in enumerate(missing):
                here = slice(place * size, (place + 1) * size)
                seen.told[keys[n]] = mean[here], log_variance[here]
        if len(keys) == 1:
            mean, log_variance = seen.told[keys[0]]
            return mean[None], log_variance[None]
        found = [seen.told[key] for key in keys]
        return np.stack([mean for mean, _ in found]), np.stack([log_variance for _, log_variance in found])


class TraitsGraph:
    """A callable that gives what `traits_of` gives, of one set. PyTorch computes those that ONNX cannot express."""

    def __init__(self, modalities: Sequence[Modality]) -> None:
        self._columns = {modality.name: column for column, modality in enumerate(modalities)}
        self._shape = (1, len(modalities), trait_count(modalities))
        self._modalities = {one.name: one for one in modalities}
        self._sessions: dict[str, Any] = {}
        for one in modalities:
            if len(one.shape) > 1:  # those of a vector are its entries
                with suppress(BackendError):
                    graph = to_onnx(_Traits(one), {"x": torch.zeros(1, *one.shape)}, ["traits"], free=[])
                    self._sessions[one.name] = session(graph)

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Tensor:
        """Return the traits, (1, M, F), of arrays by modality, float32 (*shape), model units."""
        traits = np.zeros(self._shape, np.float32)
        for name, x in arrays.items():
            x = np.ascontiguousarray(x, np.float32)[None]
            if name in self._sessions:
                found = self._sessions[name].run(None, {"x": x})[0]
            else:
                found = traits_of_one(self._modalities[name], torch.from_numpy(x)).numpy()
            traits[:, self._columns[name], : found.shape[1]] = found
        return torch.from_numpy(traits)


class _Traits(nn.Module):
    """The traits of one modality."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.modality = modality

    def forward(self, x: Tensor) -> Tensor:
        """Return them, (1, F), of x (1, *shape)."""
        return traits_of_one(self.modality, x)


class MemoryGraph:
    """A callable that gives what `Memory.recall` gives, of one state on the processor.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the memory.
    """

    def __init__(self, memory: Memory) -> None:
        inputs = memory.start(1)._asdict() | {"elapsed": torch.zeros(1)}
        self._session = session(to_onnx(_Recall(memory), inputs, ["embedding", "known"], free=[]))

    def __call__(self, recalled: Recalled) -> Remembered:
        """Return memory at the moment of a set, as the posterior network takes it: one row."""
        return Remembered(*map(torch.from_numpy, self._session.run(None, onnx_memory(recalled, 1))))


class _Recall(nn.Module):
    """The recall of a memory with tensors as its inputs."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, hidden: Tensor, present: Tensor, elapsed: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (B, d), and whether it counts (B,)."""
        return tuple(self.memory.recall(MemoryState(hidden, present), elapsed))


class _Contexts(nn.Module):
    """The posteriors of N contexts of one set."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = folded_fusion(fusion)

    def forward(self, embeddings: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, (N, L), from embeddings (1, C, d) and what is in each context, (N, C)."""
        posterior = self.fusion(embeddings, given[:, None])
        return posterior.mean[:, 0], posterior.log_variance[:, 0]


class _Heads(nn.Module):
    """The heads of a network of trust, all modalities in one product each.

    R rows hold one set each, of the same embeddings, with other contexts.
    """

    def __init__(self, network: TrustNetwork, traits: int) -> None:
        super().__init__()
        self.network, self.traits = network, traits
        # (inputs, outputs) of each modality, side by side.
        self.own, self.own_bias = _side_by_side(list(network.own))
        self.context, self.context_bias = _side_by_side(list(network.context))
        self.agrees = [_side_by_side([head[n] for head in network.agrees]) for n in (1, 3)]  # type: ignore[index]
        self.alone = [_side_by_side([head[n] for head in network.alone]) for n in (1, 3)]  # type: ignore[index]
        self.places = network.places()

    def forward(self, now: Tensor, others: Tensor, known: Tensor, *rest: Tensor) -> Tensor:
        """Return the logits, (R, 1 + M), from (M, d), (M, 2, d), (M, 2, 1), and what contexts tell."""
        network = self.network
        traits, (mean, log_variance, past, there, present) = rest[:-5], rest[-5:]
        own = self._own(now, others, known, *traits)
        first, second = (own[:, None] @ self.own + self.own_bias).chunk(2, dim=-1)  # (M, 1, hidden)
        change = torch.where(there.all(dim=-1, keepdim=True), (mean - past) / network.context_scale, 0.0)
        found = torch.cat([mean / network.context_scale, log_variance, change, there.to(mean)], dim=-1)
        # (M, M R, 3L + 2): of whom; without whom, by row.
        contexts = found.transpose(0, 1)[self.places].flatten(1, 2)
        agreement = _ended(first + contexts @ self.context + self.context_bias, self.agrees)
        table = agreement.unflatten(1, (network.modalities, -1))[..., 0]
        table = torch.where(present.T[:, None], table, 0.0)
        alone = _ended(second, self.alone)[:, 0]
        everyone = (table * torch.eye(network.modalities)[..., None]).sum(dim=1)  # (M, R)
        faulty = torch.where(present.T, table.sum(dim=0) - everyone + alone, -torch.inf)
        return torch.cat([everyone.sum(dim=0, keepdim=True), faulty]).T

    def _own(self, now: Tensor, others: Tensor, known: Tensor, *traits: Tensor) -> Tensor:
        """Return the features of each modality by itself, as `TrustNetwork.judge` orders them."""
        network = self.network
        x = (now - network.embedding_mean) / network.embedding_scale
        change = torch.where(known, (now[:, None] - others) / network.change_scale[:, None], 0.0)
        parts = [torch.cat([x, change.flatten(1)], dim=1).clamp(-20.0, 20.0), known[..., 0].to(x)]
        if traits:
            t, other = traits
            own = (t - network.trait_mean) / network.trait_scale
            change = torch.where(known, (t[:, None] - other) / network.trait_scale[:, None], 0.0)
            still = torch.where(known[..., 0], (change.abs().mean(dim=-1) + STILL).log(), 0.0)
            parts += [torch.cat([own, change.flatten(1)], dim=1).clamp(-20.0, 20.0), still]
        return torch.cat(parts, dim=1)


def _ended(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    for weight, bias in layers:
        x = nn.functional.silu(x) @ weight + bias
    return x


def _side_by_side(layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Return the weights (M, inputs, outputs) and biases (M, 1, outputs) of M linear layers."""
    weights = torch.stack([layer.weight.detach().T for layer in layers if isinstance(layer, nn.Linear)])
    return weights, torch.stack([layer.bias.detach() for layer in layers if isinstance(layer, nn.Linear)])[:, None]


def _pair(two: list[NDArray[Any]]) -> NDArray[Any]:
    return np.stack(two, axis=1)


def _mask(seen: Seen | None, modalities: int) -> Booleans:
    return np.zeros(modalities, bool) if seen is None else seen.mask[:modalities]
