"""The networks of trust as graphs of ONNX Runtime: a set is judged in a fraction of the time that PyTorch takes.

The posteriors of a set's contexts are computed once. They are kept with the set, since the sets of the next half second
are compared with them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smvae_core.inference.folded_attention import folded_fusion
from smvae_core.inference.onnx_runtime import onnx_memory, session, to_onnx
from smvae_core.inference.state import Recalled
from smvae_core.inference.trust import Numbers, Seen
from smvae_core.modality import Modality
from smvae_core.model.memory import Memory, MemoryState, Remembered
from smvae_core.model.traits import is_expressible, trait_count, traits_of_one
from smvae_core.model.trust import TrustNetwork

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
        self._modalities, self._traits, self._latent = m, network.traits, latent
        self._kept: Booleans = network.kept(slots).numpy()
        contexts = len(self._kept)
        fixed = {
            "embeddings": torch.zeros(1, slots, width),
            "others": torch.zeros(m, 2, width),
            "known": torch.ones(m, 2, 1, dtype=torch.bool),
        }
        if network.traits:
            fixed |= {
                "traits": torch.zeros(m, network.traits),
                "other_traits": torch.zeros(m, 2, network.traits),
            }
        rows = {
            "given": torch.ones(1, contexts, slots, dtype=torch.bool),
            "past": torch.zeros(1, contexts, latent),
            "there": torch.ones(1, contexts, 2, dtype=torch.bool),
            "present": torch.ones(1, m, dtype=torch.bool),
        }
        self._tell = session(
            to_onnx(
                _Contexts(fusion),
                {"embeddings": fixed["embeddings"], "given": rows["given"]},
                ["mean"],
                free=["given"],
            )
        )
        self._judge = session(to_onnx(_Step(fusion, network), fixed | rows, ["logits", "mean"], free=list(rows)))

    def __call__(self, now: Seen, before: Seen | None, past: Seen | None, allowed: Booleans) -> Numbers:
        """Return the logits of the hypotheses, (R, 1 + M), float64."""
        m = self._modalities
        here = now.mask & allowed
        given = here[:, None] & self._kept
        there = np.zeros((*given.shape[:2], 2), bool)
        given.any(axis=-1, out=there[..., 1])
        others = np.zeros((m, 2, now.embeddings.shape[1]), np.float32)
        known = np.zeros((m, 2, 1), bool)
        inputs: dict[str, Any] = {
            "embeddings": now.embeddings[None],
            "others": others,
            "known": known,
            "given": given,
            "past": np.zeros((*given.shape[:2], self._latent), np.float32),
            "there": there,
            "present": here[:, :m],
        }
        if self._traits:
            inputs["traits"] = now.traits[:, : self._traits]
            inputs["other_traits"] = np.zeros((m, 2, self._traits), np.float32)
        for place, other in enumerate((before, past)):
            if other is not None:
                others[:, place] = other.embeddings[:m]
                known[:, place, 0] = other.mask[:m] & now.mask[:m]
                if self._traits:
                    inputs["other_traits"][:, place] = other.traits[:, : self._traits]
        if past is not None:
            inputs["past"] = self._told(past, past.mask & allowed, there[..., 0])
        logits, told = self._judge.run(None, inputs)
        now.told.update((row.tobytes(), mean) for row, mean in zip(here, told))
        return np.asarray(logits, np.float64)

    def _told(self, seen: Seen, rows: Booleans, there: Booleans) -> Floats:
        """Return the mean of every context of each row, (R, P, L); write into `there` whether it has anything."""
        given = rows[:, None] & self._kept
        given.any(axis=-1, out=there)
        keys = [row.tobytes() for row in rows]
        missing = [n for n, key in enumerate(keys) if key not in seen.told]
        if missing:
            (found,) = self._tell.run(["mean"], {"embeddings": seen.embeddings[None], "given": given[missing]})
            seen.told.update(zip([keys[n] for n in missing], found))
        return np.stack([seen.told[key] for key in keys])


class TraitsGraph:
    """A callable that gives what `traits_of` gives, of one set.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the traits.
    """

    def __init__(self, modalities: Sequence[Modality]) -> None:
        self._shape = (len(modalities), trait_count(modalities))
        self._columns = {one.name: column for column, one in enumerate(modalities)}
        self._others = {one.name: one for one in modalities if not is_expressible(one)}
        graphs = [one for one in modalities if one.name not in self._others]
        self._nothing = {one.name: np.zeros((1, *one.shape), np.float32) for one in graphs}
        inputs = {one.name: torch.zeros(1, *one.shape) for one in graphs}
        outputs = [f"{name}_traits" for name in inputs]
        self._session = session(to_onnx(_Traits(graphs), inputs, outputs, free=[])) if graphs else None

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Floats:
        """Return the traits, (M, F), of arrays by modality, float32 (*shape), model units."""
        traits = np.zeros(self._shape, np.float32)
        given = {name: np.ascontiguousarray(x, np.float32)[None] for name, x in arrays.items()}
        of_graphs: dict[str, Any] = {}
        if self._session is not None:
            inputs = {name: given.get(name, nothing) for name, nothing in self._nothing.items()}
            of_graphs = dict(zip(inputs, self._session.run(None, inputs)))
        for name, x in given.items():
            other = self._others.get(name)
            own = of_graphs[name] if other is None else traits_of_one(other, torch.from_numpy(x)).numpy()
            traits[self._columns[name], : own.size] = own[0]
        return traits


class _Traits(nn.Module):
    """The traits of several modalities."""

    def __init__(self, modalities: Sequence[Modality]) -> None:
        super().__init__()
        self.modalities = modalities

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return them, each (1, F), of one array (1, *shape) for each modality."""
        return tuple(traits_of_one(modality, x) for modality, x in zip(self.modalities, arrays))


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
    """The posteriors of the contexts of one set."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = folded_fusion(fusion)

    def forward(self, embeddings: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, (R, P, L), from embeddings (1, C, d) and what each has, (R, P, C)."""
        posterior = self.fusion(embeddings, given[:, :, None])
        return posterior.mean[:, :, 0], posterior.log_variance[:, :, 0]


class _Step(nn.Module):
    """Contexts and heads of one set."""

    def __init__(self, fusion: nn.Module, network: TrustNetwork) -> None:
        super().__init__()
        self.contexts, self.heads = _Contexts(fusion), _Heads(network)

    def forward(self, embeddings: Tensor, others: Tensor, known: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (R, 1 + M), and the mean of each context (R, P, L)."""
        traits, (given, past, there, present) = rest[:-4], rest[-4:]
        mean, log_variance = self.contexts(embeddings, given)
        now = embeddings[0, : len(others)]
        return self.heads(now, others, known, *traits, mean, log_variance, past, there, present), mean


class _Heads(nn.Module):
    """The heads of a network of trust, all modalities in one product each.

    R rows hold one set each, of the same embeddings, with other contexts.
    """

    def __init__(self, network: TrustNetwork) -> None:
        super().__init__()
        self.network = network
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
            still = network.stillness(change.transpose(0, 1)).transpose(0, 1)
            still = torch.where(known, still, 0.0)
            parts += [torch.cat([own, change.flatten(1)], dim=1).clamp(-20.0, 20.0), still.flatten(1)]
        return torch.cat(parts, dim=1)


def _ended(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    for weight, bias in layers:
        x = nn.functional.silu(x) @ weight + bias
    return x


def _side_by_side(layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Return the weights (M, inputs, outputs) and biases (M, 1, outputs) of M linear layers."""
    weights = torch.stack([layer.weight.detach().T for layer in layers if isinstance(layer, nn.Linear)])
    return weights, torch.stack([layer.bias.detach() for layer in layers if isinstance(layer, nn.Linear)])[:, None]
