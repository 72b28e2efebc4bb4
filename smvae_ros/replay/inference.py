"""Many sets at once through the model: subsets of each set, and the error of each prediction.

A batch is computed on one thread and always in the same order, so the same sets give the same bytes on any number of
cores. The results agree with the node's own inference, one set at a time, to 1e-4. Memory goes from set to set: a batch
embeds its modalities, and then waits for the memory after the batch before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, compress
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.inference.backend import Arrays
from smvae_core.inference.decoding import ModalityDecoder
from smvae_core.inference.state import Recalled, RecallingFusion, age_after, aged, nothing
from smvae_core.inference.trust import Verdict
from smvae_core.inference.watch import Watch, WatchState
from smvae_core.model.memory import Remembered
from smvae_core.model.vae import MultimodalVAE
from smvae_core.subsets import Subset, subset_mask
from smvae_core.systems.posterior import Posterior
from smvae_ros.replay.subsets import replayed_subsets, subsets_of_set

Step = Callable[[np.ndarray, np.ndarray, Recalled], tuple[np.ndarray, np.ndarray | None]]
"""From the embeddings (M, d) of a set, its mask (M,), and memory: h after the set, and memory's embedding (1, d)."""

BATCH = 32
"""Number of sets that are computed together."""

ROWS = {"cpu": 120, "cuda": 480}
"""Number of images decoded together: more no longer fit into the caches, fewer take longer for each image."""


@dataclass(frozen=True)
class Judged:
    """The model's inference from one set. All arrays are float32 and in model units.

    Attributes:
        held: modalities in the set.
        mean: μ of the posterior of the whole set, (L,).
        log_variance: log σ² of the same posterior, (L,).
        attention: weight of each modality of the model, (M,).
        errors: by subset (see `subsets_of_set`), the mean squared error of each modality predicted from it, (M,); NaN
            where the bag has no truth, and for images of a set that is not judged in full.
        from_set: mean squared error of each modality predicted from the whole set, (M,).
        trivial: mean squared error of the training mean, (M,).
        predicted: predictions from the whole set; images only where they were asked for.
        without: each modality, images apart, predicted from the other modalities of the set; left out where the set
            held no other.
        attention_of_memory: weight of memory; 0 without.
        recalled: memory at the moment of the set; None for a model without memory.
        verdict: what trust says of the set; None for a model without trust. `held` lacks what it dropped.
    """

    held: Subset
    mean: np.ndarray
    log_variance: np.ndarray
    attention: np.ndarray
    errors: dict[Subset, np.ndarray]
    from_set: np.ndarray
    trivial: np.ndarray
    predicted: dict[str, np.ndarray]
    without: dict[str, np.ndarray]
    attention_of_memory: float = 0.0
    recalled: Recalled | None = None
    verdict: Verdict | None = None

    @property
    def memory_age(self) -> float | None:
        """Seconds from the newest observation in memory to the set; None where nothing was remembered."""
        return self.recalled.age if self.recalled is not None else None


class Carried(NamedTuple):
    """The memory and the state of trust that go from set to set; None where the model lacks it, and before any set."""

    memory: Recalled | None = None
    watch: WatchState | None = None


@dataclass(frozen=True)
class Batch:
    """Sets that follow each other and are computed together. Arrays are float32, in model units.

    Attributes:
        sets: what reached each set; may lack any modality.
        truths: what the bag holds for each set's moment; may lack any modality.
        elapsed: seconds from the set before to each set; None where nothing is to be remembered.
        before: what the batch before hands on; None before the first.
        in_full: whether the images of each set are predicted from every subset, not only from all that it holds; None
            for all sets.
        after: takes what this batch hands on, or the error because of which there is none.
    """

    sets: Sequence[Arrays]
    truths: Sequence[Arrays]
    elapsed: Sequence[float | None]
    before: Future[Carried] | None = None
    in_full: Sequence[bool] | None = None
    after: Future[Carried] = field(default_factory=Future)


class BatchInference:
    """A model for many sets at a time; several threads may call it.

    Attributes:
        names: modalities, in the order of the model.
        latent: number of dimensions of z.
        memory: settings of the model's memory; None without.

    Args:
        mean: mean of each modality over the training data, model units.
        pictures: whether to return predicted images too.
        watch: over the model, on the processor; None for a checkpoint without trust.
        drop: modalities that leave the set while they are distrusted.
        step: what memory makes of one set, faster than PyTorch; None for PyTorch.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        mean: Arrays,
        device: torch.device,
        pictures: bool,
        watch: Watch | None = None,
        drop: Collection[str] = (),
        step: Step | None = None,
    ) -> None:
        self._watch, self._drop = watch, drop
        self._step: Step = step or self._torch_step
        self.names = model.names
        self.latent = model.configuration.latent
        self._model = copy.deepcopy(model).to(device).eval()
        self.memory = model.configuration.memory
        self._recalling = RecallingFusion(self._model) if self.memory is not None else None
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self._decoders = {name: ModalityDecoder(self._model, name) for name in self.names}
        self._mean, self._device, self._pictures = mean, device, pictures
        self._rows = ROWS[device.type]
        modalities = list(model.modalities.values())
        self._images = {modality.name for modality in modalities if modality.is_image}
        self._is_image = np.array([modality.is_image for modality in modalities])
        self._subsets = replayed_subsets(modalities)
        self._subsets_of = cache(partial(subsets_of_set, modalities))

    def run(self, batch: Batch) -> list[Judged]:
        """Judge each set of a batch against its truth."""
        try:
            return self._run(batch)
        except BaseException as error:
            # A batch that waits for the memory would wait for ever.
            if not batch.after.done():
                batch.after.set_exception(error)
            raise

    @torch.inference_mode()
    def _run(self, batch: Batch) -> list[Judged]:
        sets, truths = batch.sets, batch.truths
        embeddings, present = self._embedded(sets)
        recalled, verdicts, present = self._recall(embeddings, present, batch)
        held = [tuple(compress(self.names, here)) for here in present.tolist()]
        # A set has a row for each of its subsets, and an empty set has one. The first row is the whole set.
        rows = [self._subsets_of(names) for names in held]
        every_subset = list(dict.fromkeys(chain(self._subsets, *rows)))
        place = {names: number for number, names in enumerate(every_subset)}
        # The modalities that are in a subset and in a set, (S, B, M).
        masks = subset_mask(self.names, every_subset)[:, None] & present
        counts = torch.tensor([max(1, len(chosen)) for chosen in rows])
        owner = torch.arange(len(sets)).repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        subset = torch.tensor([number for chosen in rows for number in [place[names] for names in chosen] or [0]])
        every = self._model.fuse(embeddings, masks.to(self._device), self._remembered(recalled))
        posterior = Posterior(*(x[subset.to(self._device), owner.to(self._device)] for x in every))
        in_full = torch.tensor(batch.in_full or [True] * len(sets))[owner]
        decoded, errors = self._decoded(posterior.mean, owner, first, in_full, truths)
        # The rows of all subsets are over the same sets, so that they can be compared.
        of_subsets = np.where(~in_full.numpy()[:, None] & self._is_image, np.nan, errors)
        mean, log_variance, attention = (x[first.to(self._device)].cpu().numpy() for x in posterior)
        judged = []
        for i, (start, chosen) in enumerate(zip(first.tolist(), rows)):
            row_of = {names: start + n for n, names in enumerate(chosen)}
            without = {}
            for name in self.names:
                rest = tuple(other for other in held[i] if other != name)
                if name not in self._images and rest:
                    without[name] = decoded[name][row_of[rest]]
            judged.append(
                Judged(
                    held=held[i],
                    mean=mean[i],
                    log_variance=log_variance[i],
                    attention=attention[i, : len(self.names)],
                    errors={names: of_subsets[row] for names, row in row_of.items()},
                    from_set=errors[start],
                    trivial=self._trivial(truths[i]),
                    predicted={name: x[i] if name in self._images else x[start] for name, x in decoded.items()},
                    without=without,
                    attention_of_memory=float(attention[i, len(self.names) :].sum()),
                    recalled=recalled[i],
                    verdict=verdicts[i],
                )
            )
        return judged

    @torch.inference_mode()
    def posterior(self, sets: Sequence[Arrays], recalled: Sequence[Recalled | None]) -> Posterior:
        """Return q(z | X) of each whole set with what was recalled at its moment."""
        embeddings, present = self._embedded(sets)
        return self._model.fuse(embeddings, present.to(self._device), self._remembered(recalled))

    @torch.inference_mode()
    def predict(self, z: Tensor, name: str) -> np.ndarray:
        """Return E[x_m | z], (B, *shape)."""
        decoder = self._decoders[name]
        return torch.cat([decoder.restored(decoder.expectation(part)).cpu() for part in z.split(self._rows)]).numpy()

    def _embedded(self, sets: Sequence[Arrays]) -> tuple[Tensor, Tensor]:
        present = torch.tensor([[name in arrays for name in self.names] for arrays in sets])
        wanted = [name for name, anywhere in zip(self.names, present.any(dim=0).tolist()) if anywhere]
        return self._model.embed({name: self._stacked(name, sets) for name in wanted}, present), present

    def _recall(
        self, embeddings: Tensor, present: Tensor, batch: Batch
    ) -> tuple[list[Recalled | None], list[Verdict | None], Tensor]:
        """Return what is recalled at each set, the verdicts, and what stays in the sets; hand the rest on."""
        if self._recalling is None and self._watch is None:
            batch.after.set_result(Carried())
            return [None] * len(batch.sets), [None] * len(batch.sets), present
        memory, watch = batch.before.result() if batch.before is not None else Carried()
        recalled: list[Recalled | None] = []
        verdicts: list[Verdict | None] = []
        kept = present.clone()
        host = embeddings.cpu().numpy()
        for row, elapsed in enumerate(batch.elapsed):
            now, verdict = self._at(memory, elapsed), None
            columns, after = host[row], None
            if now is not None:
                # Before it is known what is to be dropped, which is nearly always nothing.
                after, slot = self._step(host[row], kept[row].numpy(), now)
                columns = columns if slot is None else np.concatenate([columns, slot])
            if self._watch is not None:
                watch = watch if elapsed is not None and elapsed >= 0.0 else None
                watched = self._watch.step(watch, batch.sets[row], columns, now, elapsed or 0.0, self._drop)
                watch, verdict = watched.state, watched.verdict
                if watched.dropped or watched.recalled is not now:
                    kept[row] &= torch.tensor([name not in watched.dropped for name in self.names])
                    now = watched.recalled
                    after = None if now is None else self._step(host[row], kept[row].numpy(), now)[0]
            recalled.append(now)
            verdicts.append(verdict)
            if now is not None and after is not None:
                memory = Recalled(after, age_after(now.age, observed=bool(kept[row].any())), 0.0)
        batch.after.set_result(Carried(memory, watch))
        return recalled, verdicts, kept

    def _torch_step(self, embeddings: np.ndarray, mask: np.ndarray, recalled: Recalled) -> tuple[np.ndarray, None]:
        assert self._recalling is not None, "something was recalled"
        here, there = (torch.from_numpy(x)[None].to(self._device) for x in (embeddings, mask))
        return self._recalling.step(here, there, recalled)[1][0].cpu().numpy(), None

    def _at(self, memory: Recalled | None, elapsed: float | None) -> Recalled | None:
        """Return memory at the moment of the next set; None for a model without."""
        if self.memory is None:
            return None
        state = memory or nothing(self.memory)
        age = None if elapsed is None else aged(state.age, elapsed, self.memory.horizon)
        return Recalled(state.hidden, age, elapsed or 0.0)

    def _remembered(self, recalled: Sequence[Recalled | None]) -> Remembered | None:
        known = [one for one in recalled if one is not None]
        return self._recalling.remembered(known, self._device) if self._recalling is not None and known else None

    def _decoded(
        self, z: Tensor, owner: Tensor, first: Tensor, in_full: Tensor, truths: Sequence[Arrays]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Decode all rows; of images the first row of each set, and all rows of the sets `in_full`.

        Returns:
            The predictions from each row; of images only the first row of each set, and only where they are wanted.
            And the mean squared errors of all rows, (rows, M).
        """
        decoded: dict[str, np.ndarray] = {}
        errors = np.full((len(owner), len(self.names)), np.nan, np.float32)
        shown = torch.zeros(len(owner), dtype=torch.bool).index_fill(0, first, True)
        for column, name in enumerate(self.names):
            image = name in self._images
            known = torch.tensor([name in arrays for arrays in truths])[owner]
            known &= (in_full | shown) if image else True
            kept = shown & self._pictures if image else torch.ones_like(known)
            wanted = torch.nonzero(known | kept)[:, 0]
            if not len(wanted):  # a camera that was out for all of these sets
                continue
            decoder, truth = self._decoders[name], self._decoders[name].laid_out(self._stacked(name, truths))
            predicted, squared = [], []
            for rows in wanted.split(self._rows if image else len(owner)):
                x = decoder.expectation(z[rows.to(self._device)])
                if kept[rows].any():
                    # A copy, since the errors are computed in place.
                    predicted.append(decoder.restored(x[kept[rows].to(self._device)]))
                squared.append(_squared_errors(x, truth, owner[rows]) / math.prod(self._model.modalities[name].shape))
            if predicted:
                decoded[name] = torch.cat(predicted).cpu().numpy()
            if squared:
                errors[wanted.numpy(), column] = torch.cat(squared).cpu().numpy()
            errors[~known.numpy(), column] = np.nan
        return decoded, errors

    def _stacked(self, name: str, sets: Sequence[Arrays]) -> Tensor:
        """Return the arrays of one modality, (B, *shape), zeros where a set has none."""
        shape = self._model.modalities[name].shape
        return torch.from_numpy(np.stack([arrays.get(name, np.zeros(shape, np.float32)) for arrays in sets])).to(
            self._device
        )

    def _trivial(self, truth: Arrays) -> np.ndarray:
        errors = [
            np.mean(np.square(truth[name] - self._mean[name]), dtype=np.float64) if name in truth else np.nan
            for name in self.names
        ]
        return np.array(errors)


def _squared_errors(x: Tensor, truths: Tensor, owner: Tensor) -> Tensor:
    """Return the sums of squared errors (B,) of x, which is overwritten.

    Args:
        truths: true values, laid out as x.
        owner: number of the truth of each row, ascending, on the processor, (B,).
    """
    numbers, counts = torch.unique_consecutive(owner, return_counts=True)
    for number, rows in zip(numbers.tolist(), x.split(counts.tolist())):
        rows -= truths[number]
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.square_()
