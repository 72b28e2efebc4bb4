"""Memory and trust in a replay: they go from set to set, in the order of the bag, as in the node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.inference.backend import Arrays
from smvae_core.inference.state import Recalled, RecallingFusion, age_after, aged, nothing
from smvae_core.inference.trust import Verdict
from smvae_core.inference.watch import Watch, WatchState

Step = Callable[[np.ndarray, np.ndarray, Recalled], tuple[np.ndarray, np.ndarray | None]]
"""From the embeddings (M, d) of a set, its mask (M,), and memory: h after the set, and memory's embedding (1, d)."""


class Carried(NamedTuple):
    """The memory and the state of trust that go from set to set; None where the model lacks it, and before any set."""

    memory: Recalled | None = None
    watch: WatchState | None = None


class Recollection(NamedTuple):
    """What memory and trust say of B sets that follow each other.

    Attributes:
        recalled: memory at the moment of each set; None for a model without memory.
        verdicts: of each set; None for a model without trust.
        kept: the modalities that stay in the sets, (B, M), bool.
        carried: for the sets that follow.
    """

    recalled: list[Recalled | None]
    verdicts: list[Verdict | None]
    kept: Tensor
    carried: Carried


class Recollecting:
    """The memory and the trust of a model, one set after the other.

    Args:
        names: modalities, in the order of the model.
        recalling: of the model; None for one without memory.
        watch: over the model, on the processor; None for one without trust.
        drop: modalities that leave the set while they are distrusted.
        step: what memory makes of one set, faster than PyTorch; None for PyTorch.
    """

    def __init__(
        self,
        names: Sequence[str],
        recalling: RecallingFusion | None,
        watch: Watch | None,
        drop: Collection[str],
        step: Step | None,
    ) -> None:
        self._names, self._recalling, self._watch, self._drop = names, recalling, watch, drop
        self._step: Step = step or self._torch_step

    @torch.inference_mode()
    def __call__(
        self,
        sets: Sequence[Arrays],
        elapsed: Sequence[float | None],
        embeddings: Tensor,
        present: Tensor,
        carried: Carried,
    ) -> Recollection:
        """Go through B sets.

        Args:
            elapsed: seconds from the set before to each set; None where nothing is to be remembered.
            embeddings: of the sets, (B, M, d).
            present: the modalities that the sets have, (B, M), bool, on the processor.
            carried: from the sets before.
        """
        if self._recalling is None and self._watch is None:
            return Recollection([None] * len(sets), [None] * len(sets), present, carried)
        memory, watch = carried
        recalled: list[Recalled | None] = []
        verdicts: list[Verdict | None] = []
        kept = present.clone()
        host = embeddings.cpu().numpy()
        for row, seconds in enumerate(elapsed):
            now, verdict = self._at(memory, seconds), None
            columns, after = host[row], None
            if now is not None:
                # Before it is known what is to be dropped, which is nearly always nothing.
                after, slot = self._step(host[row], kept[row].numpy(), now)
                columns = columns if slot is None else np.concatenate([columns, slot])
            if self._watch is not None:
                watch = watch if seconds is not None and seconds >= 0.0 else None
                watched = self._watch.step(watch, sets[row], columns, now, seconds or 0.0, self._drop)
                watch, verdict = watched.state, watched.verdict
                if watched.dropped or watched.recalled is not now:
                    kept[row] &= torch.tensor([name not in watched.dropped for name in self._names])
                    now = watched.recalled
                    after = None if now is None else self._step(host[row], kept[row].numpy(), now)[0]
            recalled.append(now)
            verdicts.append(verdict)
            if now is not None and after is not None:
                memory = Recalled(after, age_after(now.age, observed=bool(kept[row].any())), 0.0)
        return Recollection(recalled, verdicts, kept, Carried(memory, watch))

    def _torch_step(self, embeddings: np.ndarray, mask: np.ndarray, recalled: Recalled) -> tuple[np.ndarray, None]:
        assert self._recalling is not None, "something was recalled"
        device = next(self._recalling.parameters()).device
        here, there = (torch.from_numpy(x)[None].to(device) for x in (embeddings, mask))
        return self._recalling.step(here, there, recalled)[1][0].cpu().numpy(), None

    def _at(self, memory: Recalled | None, elapsed: float | None) -> Recalled | None:
        """Return memory at the moment of the next set; None for a model without."""
        if self._recalling is None:
            return None
        settings = self._recalling.memory.configuration
        state = memory or nothing(settings)
        age = None if elapsed is None else aged(state.age, elapsed, settings.horizon)
        return Recalled(state.hidden, age, elapsed or 0.0)
