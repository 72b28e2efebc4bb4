"""The training of trust, on a finished model that stays as it is: which modality of a set is faulty, if any?

Healthy sets come from logs; faulty ones are made from them, one modality at a time, in many ways and degrees. All
embeddings are computed once and kept, so that a step of training costs little.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.evaluation.trust import PERIOD, columns_of, embedded_steps
from smvae_core.model.memory import MemoryState
from smvae_core.model.traits import trait_count, traits_of_one
from smvae_core.model.trust import FAULTY, Moment, TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.training.faulty_episodes import altered

Rows = NDArray[np.int64]

TRAJECTORIES = 48
"""Most trajectories that are used."""
_STEPS = 16
"""Steps of an altered episode."""
_EPISODES = {True: 500, False: 2000}
"""Altered episodes of a modality: of images, which take long to embed, and of others."""
_OPTIMISER_STEPS, _BATCH = 3000, 256
_PAST = 10
"""Steps from a set to the one that its changes are measured against."""
_KEEP = 0.85
_CHUNK = 128


class Table(NamedTuple):
    """Embeddings of consecutive steps, healthy and altered.

    Attributes:
        healthy: without memory.
        first: the first row of each row's trajectory, (R,).
        last: the last row of each row's trajectory, (R,).
        altered: by modality, the embeddings (episodes, steps, d) and the traits (episodes, steps, F).
        start: by modality, the row at which each altered episode begins, (episodes,).
        hidden: the state of memory before each row, (R, H); None for a model without memory.
    """

    healthy: Moment
    first: Rows
    last: Rows
    altered: list[tuple[Tensor, Tensor]]
    start: list[Rows]
    hidden: Tensor | None


def fit_trust(
    model: MultimodalVAE,
    samples: Samples,
    seed: int = 0,
    on_step: Callable[[float], None] = lambda part: None,
    steps: int = _OPTIMISER_STEPS,
) -> TrustNetwork:
    """Train the heads of trust on healthy samples, in some minutes of one core. The same input gives the same weights.

    Args:
        model: on the processor, left as it is.
        samples: that the model was trained on; at most `TRAJECTORIES` trajectories are used.
        on_step: called with the part that is done, 0 to 1.
        steps: of the optimiser.
    """
    random = np.random.default_rng(seed)
    training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        table = embedded(model, samples, random, lambda part: on_step(0.5 * part))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        traits = trait_count(model.configuration.modalities)
        network = TrustNetwork(len(model.names), model.width, model.configuration.latent, traits=traits)
        _standardise(network, model, table, random)
        _optimise(network, model, table, random, steps, lambda part: on_step(0.5 + 0.5 * part))
    model.train(training)
    return network.eval()


def embedded(
    model: MultimodalVAE, samples: Samples, random: np.random.Generator, on_step: Callable[[float], None]
) -> Table:
    """Compute the embeddings of healthy samples, and of altered episodes.

    Raises:
        LogError: no trajectory has a second step.
    """
    chosen = np.unique(samples.trajectory)[:TRAJECTORIES]
    samples = samples.select(np.flatnonzero(np.isin(samples.trajectory, chosen)))
    first, last = ends(samples)
    if (first == last).all():
        raise LogError(
            f"trust: expected trajectories of several steps, found {len(first)} of one step; a fault shows over time"
        )
    healthy = embedded_steps(model, samples)
    on_step(0.4)
    parts, starts = [], []
    for column, (name, modality) in enumerate(model.modalities.items()):
        count = _EPISODES[modality.is_image]
        start = random.integers(0, len(samples), count)
        start = np.clip(start, first[start] + 1, np.maximum(last[start] - _STEPS + 1, first[start] + 1))
        episodes = []
        for row in start:
            rows = np.minimum(np.arange(row, row + _STEPS), last[row])
            x = samples.batch(rows)[0][name].numpy()
            episodes.append(torch.from_numpy(np.ascontiguousarray(altered(modality, x, random))))
        flat = torch.cat(episodes).split(_CHUNK)
        embeddings = torch.cat([model.embeddings[name](x) for x in flat])
        traits = torch.cat([traits_of_one(modality, x) for x in flat])
        traits = F.pad(traits, (0, healthy.traits.shape[-1] - traits.shape[-1]))
        parts.append((embeddings.unflatten(0, (count, _STEPS)), traits.unflatten(0, (count, _STEPS))))
        starts.append(start)
        on_step(0.4 + 0.6 * (column + 1) / len(model.names))
    return Table(healthy, first, last, parts, starts, _states(model, healthy, first))


def _states(model: MultimodalVAE, healthy: Moment, first: Rows) -> Tensor | None:
    """Return the state of memory before each row, (R, H), of trajectories that are remembered together."""
    if model.memory is None:
        return None
    begins = np.unique(first)
    step = np.arange(len(first)) - first
    stream = np.searchsorted(begins, first)
    x = torch.zeros(len(begins), int(step.max()) + 1, *healthy.embeddings.shape[1:])
    there = torch.zeros(*x.shape[:3], dtype=torch.bool)
    x[stream, step], there[stream, step] = healthy.embeddings, healthy.mask
    hidden = columns_of(model, x, there).hidden
    assert hidden is not None
    return hidden[stream, step]


def ends(samples: Samples) -> tuple[Rows, Rows]:
    """Return the first and the last row of each sample's trajectory, (N,) each, of samples in the order of time."""
    begins = np.flatnonzero(np.append(True, samples.trajectory[1:] != samples.trajectory[:-1]))
    number = np.cumsum(np.append(True, samples.trajectory[1:] != samples.trajectory[:-1])) - 1
    return begins[number], np.append(begins[1:], len(samples))[number] - 1


def _standardise(network: TrustNetwork, model: MultimodalVAE, table: Table, random: np.random.Generator) -> None:
    rows = random.permutation(np.flatnonzero(np.arange(len(table.first)) > table.first))[:4000]
    healthy = table.healthy
    now, before = healthy.embeddings[rows], healthy.embeddings[rows - 1]
    means = model.fuse(now, healthy.mask[rows]).mean
    traits = healthy.traits[rows]
    network.standardise(now, now - before, means.detach(), traits, traits - healthy.traits[rows - 1])


def _optimise(
    network: TrustNetwork,
    model: MultimodalVAE,
    table: Table,
    random: np.random.Generator,
    steps: int,
    on_step: Callable[[float], None],
) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(steps):
        now, before, past, target = _draw(table, model, random)
        with torch.no_grad():
            contexts = network.contexts(network.told(model.fusion, now), network.told(model.fusion, past))
        loss = F.cross_entropy(network.judge(now, before, past, contexts), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        on_step((step + 1) / steps)


def _draw(table: Table, model: MultimodalVAE, random: np.random.Generator) -> tuple[Moment, Moment, Moment, Tensor]:
    """Draw sets, `FAULTY` of them with a faulty modality; the target is 0 for a healthy set, else 1 + the modality."""
    healthy = table.healthy
    modalities = healthy.mask.shape[1]
    row = random.integers(0, len(table.first), _BATCH)
    row = np.maximum(row, table.first[row] + 1)
    target = np.where(random.random(_BATCH) < 1.0 - FAULTY, 0, random.integers(1, modalities + 1, _BATCH))
    age = random.integers(0, 40, _BATCH)
    made = random.random(_BATCH) < 0.6
    episode = np.zeros(_BATCH, np.int64)
    for j in range(modalities):
        of_episode = np.flatnonzero((target == j + 1) & made)
        episode[of_episode] = random.integers(0, len(table.start[j]), len(of_episode))
        begin = table.start[j][episode[of_episode]]
        since = random.integers(0, _STEPS, len(of_episode))
        row[of_episode] = np.minimum(begin + since, table.last[begin])
        age[of_episode] = row[of_episode] - begin
    age = np.minimum(age, row - table.first[row] - 1)
    sent = _sent_elsewhere(table, row, age, random)
    keep = random.random((_BATCH, modalities)) < _KEEP
    keep[np.arange(_BATCH), np.maximum(target - 1, 0)] |= target > 0
    # Memory of just now, or of before the fault, as if it had been put right.
    lag = np.where(random.random(_BATCH) < 0.5, 0, age)
    lag = np.where(random.random(_BATCH) < 0.2, -1, lag)
    moments = []
    for back in (0, 1, _PAST):
        at = row - back
        there = at >= table.first[row]
        at = np.maximum(at, table.first[row])
        embeddings, traits = healthy.embeddings[at].clone(), healthy.traits[at].clone()
        faulty = (target > 0) & (age >= back)
        for j in range(modalities):
            here = faulty & (target == j + 1)
            own, other = np.flatnonzero(here & made), np.flatnonzero(here & ~made)
            place, elsewhere = (episode[own], np.maximum(age[own] - back, 0)), sent(other, back)
            for x, made_up, true in zip((embeddings, traits), table.altered[j], (healthy.embeddings, healthy.traits)):
                x[own, j], x[other, j] = made_up[place], true[elsewhere, j]
        mask = healthy.mask[at] & torch.from_numpy(keep & there[:, None])
        moments.append(_with_memory(Moment(embeddings, mask, traits), table, model, at, lag))
    # A modality that is not there cannot be faulty.
    chosen = np.maximum(target - 1, 0)
    absent = ~moments[0].mask.numpy()[np.arange(_BATCH), chosen]
    target = np.where(absent, 0, target)
    return moments[0], moments[1], moments[2], torch.from_numpy(target)


def _with_memory(moment: Moment, table: Table, model: MultimodalVAE, row: Rows, lag: Rows) -> Moment:
    """Return sets with the memory of so many steps before; -1 for none."""
    if model.memory is None or table.hidden is None:
        return moment
    of = np.maximum(row - np.maximum(lag, 0), table.first[row])
    present = torch.from_numpy((lag >= 0) & (of > table.first[row]))
    with torch.no_grad():
        elapsed = torch.from_numpy(PERIOD * (row - of + 1)).float()
        remembered = model.memory.recall(MemoryState(table.hidden[of], present), elapsed)
    return Moment(
        torch.cat([moment.embeddings, remembered.embedding[:, None]], dim=1),
        torch.cat([moment.mask, remembered.present[:, None]], dim=1),
        moment.traits,
    )


def _sent_elsewhere(table: Table, row: Rows, age: Rows, random: np.random.Generator) -> Callable[[Rows, int], Rows]:
    """Draw faults that send healthy samples of another moment, and return the function that says of which.

    A sensor repeats one sample (frozen), is late, runs from another moment of the same or of another trajectory, or
    repeats one sample of another moment.

    Returns:
        Of some sets, and so many sets before them, the row of the sample that was sent.
    """
    count = len(row)
    kind = random.choice(["frozen", "late", "elsewhere", "still"], count, p=[0.35, 0.2, 0.35, 0.1])
    lag = random.integers(2, 40, count)
    same = random.random(count) < 0.5
    moved = np.where(same, table.first[row], table.first[random.integers(0, len(table.first), count)])
    length = table.last[moved] - moved
    first = moved + (random.random(count) * np.maximum(length - 45, 1)).astype(np.int64)

    def sent(some: Rows, back: int) -> NDArray[np.int64]:
        since = age[some] - back
        begun = row[some] - age[some]
        place = np.select(
            [kind[some] == "frozen", kind[some] == "late", kind[some] == "elsewhere"],
            [
                np.maximum(begun - 1, table.first[row[some]]),
                np.maximum(row[some] - back - lag[some], table.first[row[some]]),
                first[some] + since,
            ],
            first[some],
        )
        rows: Rows = np.minimum(place, len(table.first) - 1)
        return rows

    return sent
