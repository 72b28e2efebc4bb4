"""What a fault costs the other modalities: believed, dropped once it is noticed, and unplugged from the start."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.sensor_faults import Fault
from benchmarks.trust_episodes import SOON, Bench, Episode
from smvae_core.checkpoint import Checkpoint
from smvae_core.evaluation.trust import PERIOD, columns_of
from smvae_core.inference.engine import Engine
from smvae_core.inference.state import Recalled, RecallingFusion, age_after
from smvae_core.inference.watch import Watch, WatchState
from smvae_core.model.likelihood import expectation
from smvae_core.model.trust import Moment

Array = NDArray[np.float32]
_PARTS = 64
_TIMED = 200


class Errors(NamedTuple):
    """Squared errors of the other modalities during faults, by modality: sums over all steps.

    Attributes:
        believed: the faulty modality stays in the sets.
        dropped: it leaves the sets while it is distrusted.
        unplugged: it was never there.
        dropped_since, unplugged_since: the same two from the set on in which it was distrusted first.
    """

    believed: dict[str, float]
    dropped: dict[str, float]
    unplugged: dict[str, float]
    dropped_since: dict[str, float]
    unplugged_since: dict[str, float]


@torch.inference_mode()
def errors(bench: Bench, watch: Watch, fault: Fault, episodes: list[Episode]) -> Errors:
    """Return the errors during episodes of one fault, from their first faulty step on."""
    model = bench.model
    column = model.names.index(fault.modality)
    streams, memory = bench.streams(episodes, column)
    without = streams.mask.clone()
    without[:, SOON:, column] = False
    z = {}
    for way, mask in (("believed", streams.mask), ("unplugged", without)):
        columns = columns_of(model, streams.embeddings, mask, start=memory)
        means = model.fusion(columns.embeddings.flatten(0, 1), columns.mask.flatten(0, 1)).mean
        z[way] = means.unflatten(0, mask.shape[:2])
    dropped = [
        _dropped(bench, watch, fault.modality, episode, Moment(*(x[n] for x in streams)), z["believed"][n])
        for n, episode in enumerate(episodes)
    ]
    z["dropped"] = torch.stack([means for means, _ in dropped])
    since = [first - SOON for _, first in dropped]
    found: dict[str, dict[str, float]] = {way: {} for way in Errors._fields}
    for name in (name for name in model.names if name != fault.modality):
        truths = [bench.raw(bench.logs[one.log], name, np.arange(one.start, one.start + len(one.arrays)))
                  for one in episodes]  # fmt: skip
        for way, latents in z.items():
            latent = torch.cat([of[SOON : SOON + len(one.arrays)] for of, one in zip(latents, episodes)])
            parts = zip(latent.split(_PARTS), torch.from_numpy(np.concatenate(truths)).split(_PARTS))
            error = torch.cat([_errors(bench, name, part, true) for part, true in parts])
            found[way][name] = float(error.sum())
            if way != "believed":
                each = error.split([len(one.arrays) for one in episodes])
                found[f"{way}_since"][name] = float(sum(x[max(0, first) :].sum() for x, first in zip(each, since)))
    return Errors(**found)


def _errors(bench: Bench, name: str, z: Tensor, true: Tensor) -> Tensor:
    """Return the squared error of each set, (N,)."""
    predicted = expectation(bench.model.modalities[name], bench.model.decoders[name](z))
    return (predicted - true).square().flatten(start_dim=1).sum(dim=1)


def _dropped(
    bench: Bench, watch: Watch, name: str, episode: Episode, sets: Moment, believed: Tensor
) -> tuple[Tensor, int]:
    """Return the latent means of one episode, (T, L), with a watch that may drop every modality, as the node's.

    Second, the step at which the faulty modality was dropped first; T if it never was.
    """
    model, log = bench.model, bench.logs[episode.log]
    recalling = RecallingFusion(model) if model.memory is not None else None
    first, steps = episode.start - SOON, SOON + len(episode.arrays)
    raw = {other: bench.raw(log, other, np.arange(first, first + steps)) for other in model.names}
    raw[name][SOON:] = episode.arrays
    hidden = None if log.hidden is None else log.hidden[first].numpy()
    memory = None if hidden is None else Recalled(hidden, PERIOD, PERIOD)
    state: WatchState | None = None
    means, noticed = believed.clone(), steps
    for step in range(steps):
        here, mask = sets.embeddings[step][None], sets.mask[step][None].clone()
        arrays = {other: raw[other][step] for column, other in enumerate(model.names) if mask[0, column]}
        watched = watch.step(state, arrays, here[0].numpy(), memory, PERIOD, model.names)
        state = watched.state
        noticed = min(noticed, step) if name in watched.dropped else noticed
        mask &= torch.tensor([[other not in watched.dropped for other in model.names]])
        if recalling is None or watched.recalled is None:
            means[step] = model.fuse(here, mask).mean[0]
            continue
        posterior, after = recalling.step(here, mask, watched.recalled)
        means[step] = posterior.mean[0]
        age = age_after(watched.recalled.age, observed=bool(mask.any()))
        memory = Recalled(after[0].numpy(), None if age is None else age + PERIOD, PERIOD)
    return means, noticed


def cost_of_trust(loaded: Checkpoint, arrays: Mapping[str, Array]) -> tuple[float, float]:
    """Return the seconds of one set without trust and with it, medians of calls by turns, everything predicted."""
    engines = (Engine(replace(loaded, trust=None), "cpu", "eager"), Engine(loaded, "cpu", "eager"))
    states = [engine.infer(arrays).state for engine in engines]
    took: list[list[float]] = [[], []]
    for _ in range(_TIMED):
        for number, engine in enumerate(engines):
            begun = time.perf_counter()
            states[number] = engine.infer(arrays, list(arrays), states[number], PERIOD).state
            took[number].append(time.perf_counter() - begun)
    return float(np.median(took[0])), float(np.median(took[1]))
