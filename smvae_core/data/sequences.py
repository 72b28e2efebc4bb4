"""Sequences of samples for the training of memory: trajectories at several spacings, where sensors fail for a while.

An epoch has B lanes. Each lane is a row of walks through trajectories, one after the other, cut into windows of T
samples. Memory goes on from window to window and forgets between two walks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from smvae_core.data.samples import Samples
from smvae_core.modality import Modality
from smvae_core.model.memory import MemoryConfiguration

# Of the steps of a walk: the shares that are one sample shorter or longer than its stride, and that are long gaps.
_JITTER, _GAP = 0.2, 0.02
# Of a sample's modalities, dropped besides the outages.
_DROPPED = 0.05
# Of the outages: those of all images, of one modality, and of everything. The rest takes random modalities.
_VISION, _SINGLE, _EVERYTHING = 0.5, 0.25, 0.1
# Seconds, longer than any window.
_FOR_EVER = 1e9


class SequenceConfiguration(BaseModel):
    """The sequences that a model with memory is trained on.

    Attributes:
        length: T, samples of a window: gradients go back so far. A step has `training.batch_size` / T windows.
        strides: samples of a log from one set to the next; each walk through a trajectory takes one of them.
        absent: share of the windows whose sets are without memory.
        longest_outage: seconds; outages last from one spacing to so long, short ones more often; 0 for none.
        between_outages: mean seconds from one outage to the next.
        latent_epochs: in so many first epochs memory and the posterior network alone learn, from the posteriors that
            the model has at the beginning. Many times faster than the others, since every image is embedded once and
            none is decoded; for a run that starts from another model.
        latent_batch_size: samples of a step of these epochs; None for that of the others.
        latent_learning_rate: of these epochs, whose schedule is their own; None for that of the others.
        decoder_epochs: in so many epochs after the latent ones the decoders alone learn, from the latents that a robot
            has, those of outages included; every image is embedded once.
        decoder_learning_rate: of these epochs, whose schedule is their own; None for that of the others.
        decoders: the modalities whose decoders learn in these epochs; none named for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(default=16, ge=2)
    strides: tuple[PositiveInt, ...] = Field(default=(1, 2, 4), min_length=1)
    absent: float = Field(default=0.2, ge=0.0, le=1.0)
    longest_outage: NonNegativeFloat = 10.0
    between_outages: PositiveFloat = 2.0
    latent_epochs: NonNegativeInt = 0
    latent_batch_size: PositiveInt | None = None
    latent_learning_rate: PositiveFloat | None = None
    decoder_epochs: NonNegativeInt = 0
    decoder_learning_rate: PositiveFloat | None = None
    decoders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sequences:
    """The windows of an epoch: K steps of B windows of T samples.

    Attributes:
        index: numbers of the samples, (K, B, T).
        elapsed: seconds since the sample before, infinite at the start of a walk, (K, B, T), float32.
        given: the degraded sets, by which memory is advanced, (K, B, T, M), bool.
        remembered: whether memory knows anything before the sample, (K, B, T), bool.
        absent: windows whose sets are without memory, (K, B), bool.
        earlier: of each sample one at or before it in its window, near ones more often, (K, B, T).
        since: seconds from the sample before `earlier`, infinite where a walk starts between, (K, B, T), float32.
    """

    index: np.ndarray
    elapsed: np.ndarray
    given: np.ndarray
    remembered: np.ndarray
    absent: np.ndarray
    earlier: np.ndarray
    since: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def windows_of_an_epoch(
    samples: Samples, settings: SequenceConfiguration, memory: MemoryConfiguration, batch_size: int, key: Sequence[int]
) -> Sequences:
    """Return about as many samples as there are, in windows; the same key draws the same.

    Args:
        batch_size: samples of a step, at least one window.
        key: seed and epoch.
    """
    random = np.random.default_rng(key)
    lanes, length = max(1, batch_size // settings.length), settings.length
    steps = -(-len(samples) // (lanes * length))
    index, elapsed = _lanes(samples, settings, memory, lanes, steps * length, random)
    given = samples.available[index] & (random.random((*index.shape, len(samples.modalities))) >= _DROPPED)
    for lane, seconds in enumerate(np.where(np.isfinite(elapsed), elapsed, 0.0).cumsum(axis=1)):
        given[lane] &= ~_outages(seconds, samples.modalities, settings, memory.spacing, random)
    known = _remembered(elapsed, given, memory.horizon)
    # A lane's windows follow each other in time.
    cut = [x.reshape(lanes, steps, length, *x.shape[2:]).swapaxes(0, 1) for x in (index, elapsed, given, known)]
    absent = random.random((steps, lanes)) < settings.absent
    return Sequences(cut[0], cut[1], cut[2], cut[3], absent, *_earlier(cut[1], random))


def runs_of(samples: Samples) -> list[np.ndarray]:
    """Return the numbers of the samples of each stretch of consecutive steps, in order of time."""
    order = np.lexsort((samples.step, samples.trajectory))
    starts = np.diff(samples.step[order], prepend=-2) != 1
    starts |= (np.diff(samples.trajectory[order], prepend=-1) != 0) | (samples.previous[order] < 0)
    return np.split(order, np.flatnonzero(starts)[1:])


def _lanes(
    samples: Samples,
    settings: SequenceConfiguration,
    memory: MemoryConfiguration,
    lanes: int,
    length: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples (lanes, length) and the seconds since the sample before."""
    runs = runs_of(samples)
    waiting: list[int] = []
    index, elapsed = np.empty((lanes, length), int), np.empty((lanes, length), np.float32)
    for lane in range(lanes):
        filled = 0
        while filled < length:
            waiting = waiting or random.permutation(len(runs)).tolist()
            run = runs[waiting.pop()]
            walk = run[_walk(len(run), settings, memory, random)][: length - filled]
            here = slice(filled, filled + len(walk))
            index[lane, here] = walk
            elapsed[lane, here] = memory.spacing * np.diff(samples.step[walk], prepend=0)
            elapsed[lane, filled] = np.inf
            filled += len(walk)
    return index, elapsed


def _earlier(elapsed: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a position at or before each of the windows' samples, and the seconds since the sample before it."""
    length = elapsed.shape[-1]
    back = np.exp(random.random(elapsed.shape) * np.log(length)).astype(int) - 1
    earlier = np.maximum(np.arange(length) - back, 0)
    # Sums of infinities could not be subtracted.
    until = np.where(np.isfinite(elapsed), elapsed, _FOR_EVER).cumsum(axis=-1, dtype=float)
    before = np.concatenate([np.zeros_like(until[..., :1]), until[..., :-1]], axis=-1)
    since = until - np.take_along_axis(before, earlier, axis=-1)
    return earlier, np.where(since < _FOR_EVER, since, np.inf).astype(np.float32)


def _walk(
    count: int, settings: SequenceConfiguration, memory: MemoryConfiguration, random: np.random.Generator
) -> np.ndarray:
    """Return positions from 0 to count - 1, ascending."""
    stride = int(random.choice(settings.strides))
    jitter: np.ndarray = np.where(random.random(count) < _JITTER, random.choice((-1, 1), count), 0)
    longest = max(stride, int(memory.horizon / memory.spacing))
    gap: np.ndarray = np.exp(random.uniform(np.log(stride), np.log(longest), count)).astype(int)
    steps: np.ndarray = np.where(random.random(count) < _GAP, gap, stride + jitter).clip(min=1)
    positions: np.ndarray = random.integers(min(stride, count)) + np.insert(steps[1:].cumsum(), 0, 0)
    return positions[positions < count]


def _outages(
    seconds: np.ndarray,
    modalities: Sequence[Modality],
    settings: SequenceConfiguration,
    spacing: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Return what fails at which sample of a lane, (length, M), bool."""
    failed = np.zeros((len(seconds), len(modalities)), bool)
    if not settings.longest_outage:
        return failed
    shortest = np.log(min(spacing, settings.longest_outage))
    begin = random.exponential(settings.between_outages)
    while begin <= seconds[-1]:
        end = begin + np.exp(random.uniform(shortest, np.log(settings.longest_outage)))
        rows = slice(*np.searchsorted(seconds, (begin, end)))
        failed[rows] |= _group(modalities, random)
        begin = end + random.exponential(settings.between_outages)
    return failed


def _group(modalities: Sequence[Modality], random: np.random.Generator) -> np.ndarray:
    """Return the modalities that fail together, (M,), bool."""
    images = np.array([m.is_image for m in modalities])
    kind = random.random()
    if kind < _VISION and images.any():
        return images
    if (kind := kind - _VISION) < _SINGLE:
        one: np.ndarray = np.arange(len(modalities)) == random.integers(len(modalities))
        return one
    if kind - _SINGLE < _EVERYTHING:
        return np.ones(len(modalities), bool)
    return random.random(len(modalities)) < 0.5


def _remembered(elapsed: np.ndarray, given: np.ndarray, horizon: float) -> np.ndarray:
    """Return before which samples memory knows anything, as `Memory.advance` has it, (lanes, length), bool."""
    anything: np.ndarray = np.any(given, axis=2)
    known: np.ndarray = np.zeros(elapsed.shape, bool)
    present: np.ndarray = np.zeros(len(elapsed), bool)
    for t in range(elapsed.shape[1]):
        known[:, t] = present & (elapsed[:, t] <= horizon)
        present = known[:, t] | anything[:, t]
    return known
