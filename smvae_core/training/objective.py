"""The bound of the model's system (`systems/`), as a loss.

Eq. 2 and 4 of the SMVAE paper print "argmin" before a bound that is maximised; here `loss` is the negative bound, to be
minimised.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.data.corruption import Corrupted
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import Posterior, at_least_single, gaussian_kl
from smvae_core.systems.registry import objective_settings
from smvae_core.systems.terms import Step
from smvae_core.training.lanes import Window
from smvae_core.training.lessons import Lesson


class Bound(NamedTuple):
    """The bound of a batch, in nats.

    Attributes:
        loss: scalar to minimise, the negative bound, mean over the batch.
        kl: KL of the posteriors to the prior, mean over the batch and the terms of the bound.
        rows: log p(x_m | z_t) of each term and sample, unweighted, (T, B, M), 0 where it is not scored.
        scored: (T, B, M), bool, which entries of `rows` count.
        state: of memory at the end of a window; None without a window.
    """

    loss: Tensor
    kl: Tensor
    rows: Tensor
    scored: Tensor
    state: MemoryState | None = None


class Objective(nn.Module):
    """The bound of the model's system, by one reparameterised sample per term.

    One forward pass, so that it can be distributed. Each modality is embedded once for all terms, and decoded for the
    terms that explain it.

    Args:
        model: its system says which bound.
        settings: of the system's objective; common settings alone leave the system's own at their defaults.
        masked: embed absent rows too, masked, so that no shape depends on the draws, which are on the model's device.

    Raises:
        BatchError: the batch does not fit the model.
    """

    def __init__(self, model: MultimodalVAE, settings: ObjectiveConfiguration, masked: bool = False) -> None:
        super().__init__()
        self.model = model
        self.masked = masked
        self.settings = objective_settings(model.configuration.system, settings)

    def forward(
        self,
        batch: Batch,
        draws: Draws,
        beta: float | Tensor,
        ramp: float | Tensor = 1.0,
        corrupted: Corrupted | None = None,
        window: Window | None = None,
        lesson: Lesson | None = None,
    ) -> Bound:
        """Compute the bound of one mini-batch.

        Args:
            batch: observations; always what is to be explained.
            draws: by the system's `draw`, for this batch; unless `masked`, they may be on the processor.
            beta: weight of the KLs now.
            ramp: from 0 to 1 over the first steps, see `ObjectiveConfiguration.ramp`.
            corrupted: what the posteriors see instead of `batch`, except of the terms in `draws.clean`.
            window: of a model with memory, what memory is told of the samples of `batch`.
            lesson: embeddings of `batch`. The loss is then not the bound: the decoders learn from the latents of these
                embeddings or, where `batch` is empty, memory and the posterior network from the teacher's posteriors.
        """
        if lesson is not None and window is not None:
            return self._predicted(batch, lesson, draws, window) if batch else self._taught(lesson, draws, window)
        model, state, remembered = self.model, None, None
        embeddings, clean = self._embed(batch, corrupted, draws, window)
        draws = draws.to(embeddings.device)
        if window is not None:
            slots, states = self._remember(embeddings, window)
            state = states[-1].detach()
            embeddings, clean = (torch.cat([x, slots[:, None]], dim=1) for x in (embeddings, clean))
            remembered = window.remembered
        terms = model.system.terms(model.fusion, Step(embeddings, clean, draws, beta, ramp, remembered), self.settings)
        explained = torch.zeros_like(terms.cost)
        rows = torch.zeros(draws.targets.shape, device=embeddings.device)
        for column, name in enumerate(model.names):
            if name not in batch:
                continue
            # Absent slots may hold NaN, whose gradient would survive the mask below.
            present = draws.targets[:, :, column].any(dim=0).view(-1, *[1] * len(model.modalities[name].shape))
            x = torch.where(present, batch[name], 0.0)
            # Terms that never explain a modality skip its decoder.
            which = draws.explains[:, column].nonzero()[:, 0].tolist()
            for some in _together(which, terms.frozen, embeddings.is_cuda):
                # Terms are taken one by one, since an index tensor would make a GPU wait.
                here = torch.stack([draws.targets[t, :, column] for t in some])
                parameters = self._decode(torch.cat([terms.z[t] for t in some]), name, some[0] in terms.frozen)
                # Also under mixed precision the bound is computed in single precision.
                parameters = at_least_single(parameters).reshape(*here.shape, *parameters.shape[1:])
                log_p = torch.where(here, log_likelihood(model.modalities[name], x, parameters), 0.0)
                for t, of_term in zip(some, log_p):
                    explained = explained + model.modalities[name].weight * terms.weight[t] * of_term
                    rows[t, :, column] = of_term.detach()
        return Bound((terms.cost - explained).mean(), terms.kl.mean().detach(), rows, draws.targets, state)

    def _taught(self, lesson: Lesson, draws: Draws, window: Window) -> Bound:
        """Return the KLs from the teacher's q(z|X) to the posteriors of seven sets.

        Without memory, as they are to stay: X, and a random subset. With h: X, the subset, the degraded set, and
        nothing. And h of some time before, alone: the forecast over a longer time.
        """
        model, target = self.model, lesson.target
        whole, part = (x.to(lesson.clean.device)[:, : len(model.names)] for x in (draws.subsets[0], draws.subsets[-1]))
        given, there = window.given.flatten(0, 1), window.remembered
        slots, states = self._remember(lesson.seen, window)
        nothing, nobody = torch.zeros_like(whole), torch.zeros_like(there)
        seen = self._sets(lesson.seen, slots, [(nothing, there), (given, there), (part, there), (part, nobody)])
        clean = self._sets(lesson.clean, slots, [(whole, there), (whole, nobody)])
        memory = self.model.memory
        assert memory is not None, "only a model with memory is taught"
        old = memory.recall(*_earlier(states, window))
        forecast = self._sets(lesson.clean, old.embedding, [(nothing, old.present & there)])
        with_memory = gaussian_kl(target, seen)[:3].sum(dim=0) + gaussian_kl(target, clean)[0]
        with_memory = with_memory + torch.where(old.present, gaussian_kl(target, forecast)[0], 0.0)
        alone = gaussian_kl(target, clean)[1] + torch.where(part.any(dim=1), gaussian_kl(target, seen)[3], 0.0)
        loss = torch.where(there, with_memory, 0.0) + alone
        rows = torch.zeros(draws.targets.shape, device=loss.device)
        return Bound(loss.mean(), target.kl_to_prior().mean(), rows, rows.bool(), states[-1].detach())

    def _predicted(self, batch: Batch, lesson: Lesson, draws: Draws, window: Window) -> Bound:
        """Return -Σ λ_m log p(x_m | z) over the m whose decoders learn, mean over z of q(z|X, h) and two other means.

        These are of the degraded set with h, and of the random subset without. A broad posterior's mean lies where no
        z of the whole set does, so the decoders are free to predict the mean of what is possible there.
        """
        model, device = self.model, lesson.clean.device
        whole, part = (x.to(device)[:, : len(model.names)] for x in (draws.subsets[0], draws.subsets[-1]))
        given, there = window.given.flatten(0, 1), window.remembered
        with torch.no_grad():
            slots, states = self._remember(lesson.seen, window)
            full = self._sets(lesson.clean, slots, [(whole, there)])
            seen = self._sets(lesson.seen, slots, [(given, there), (part, torch.zeros_like(there))])
        z = torch.cat([full.sample(draws.noise[:1].to(device)), seen.mean])
        loss, rows = torch.zeros(whole.shape[:1], device=device), torch.zeros(draws.targets.shape, device=device)
        scored = torch.zeros_like(rows, dtype=torch.bool)
        for column, name in enumerate(model.names):
            if name not in batch or not any(x.requires_grad for x in model.decoders[name].parameters()):
                continue
            modality, present = model.modalities[name], whole[:, column]
            # Absent slots may hold NaN, whose gradient would survive the mask below.
            x = torch.where(present.view(-1, *[1] * len(modality.shape)), batch[name], 0.0)
            parameters = at_least_single(model.decode(z.flatten(0, 1), [name])[name])
            log_p = torch.where(present, log_likelihood(modality, x, parameters.unflatten(0, z.shape[:2])), 0.0)
            loss = loss - modality.weight * log_p.mean(dim=0)
            rows[0, :, column] = log_p[0].detach()
            scored[0, :, column] = present
        return Bound(loss.mean(), full.kl_to_prior().mean(), rows, scored, states[-1].detach())

    def _sets(self, embeddings: Tensor, slots: Tensor, sets: list[tuple[Tensor, Tensor]]) -> Posterior:
        """Return the posteriors of several sets of the same samples, each given as a mask (B, M) and whether with h."""
        masks = torch.stack([torch.cat([mask, memory[:, None]], dim=1) for mask, memory in sets])
        posterior: Posterior = self.model.fusion(torch.cat([embeddings, slots[:, None]], dim=1), masks)
        return posterior

    def _remember(self, embeddings: Tensor, window: Window) -> tuple[Tensor, list[MemoryState]]:
        """Return memory's embedding before each sample (B·T, d), and its states before the T samples and after them.

        Memory is advanced by the posteriors of the degraded sets. Only this is done sample after sample.
        """
        memory, states = self.model.memory, [window.state]
        assert memory is not None, "only a model with memory has windows"
        sets = embeddings.unflatten(0, window.elapsed.shape)
        slots = []
        for t, elapsed in enumerate(window.elapsed.unbind(dim=1)):
            remembered, given = memory.recall(states[-1], elapsed), window.given[:, t]
            posterior = self.model.fuse(sets[:, t], given, remembered)
            states.append(memory.advance(states[-1], elapsed, posterior, given))
            slots.append(remembered.embedding)
        return torch.stack(slots, dim=1).flatten(0, 1).to(embeddings.dtype), states

    def _embed(
        self, batch: Batch, corrupted: Corrupted | None, draws: Draws, window: Window | None
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings that the terms see, and those without corruption that `draws.clean` asks for."""
        embed = self.model.embed_masked if self.masked else self.model.embed
        # Without the column of memory, which is no data.
        subsets = draws.subsets[:, :, : len(self.model.names)]
        degraded = torch.zeros_like(subsets[0]) if window is None else window.given.flatten(0, 1).to(subsets.device)
        seen = subsets.any(dim=0) | degraded
        if corrupted is None or not draws.clean:
            embeddings = embed(batch if corrupted is None else corrupted.batch, seen)
            return embeddings, embeddings
        others = [degraded, *(subset for t, subset in enumerate(subsets) if t not in draws.clean)]
        changed = corrupted.changed & torch.stack(others).any(dim=0)
        # One call, so that clean and corrupted samples share the batch statistics; only what was changed is embedded
        # a second time.
        both = {name: torch.cat([x, corrupted.batch[name]]) for name, x in batch.items()}
        clean, again = embed(both, torch.cat([seen, changed])).chunk(2)
        return torch.where(changed.to(clean.device, non_blocking=True)[:, :, None], again, clean), clean

    def _decode(self, z: Tensor, name: str, frozen: bool) -> Tensor:
        if not frozen:
            return self.model.decode(z, [name])[name]
        decoder = self.model.decoders[name]
        weights = {key: weight.detach() for key, weight in decoder.named_parameters()}
        parameters: Tensor = torch.func.functional_call(decoder, weights, (z,))
        return parameters


def _earlier(states: list[MemoryState], window: Window) -> tuple[MemoryState, Tensor]:
    """Return the state before the sample that `Window.earlier` names, and the seconds since, of each sample (B·T)."""
    when, seconds = window.earlier
    hidden, present = (torch.stack(x, dim=1) for x in zip(*states))
    hidden, present = hidden.take_along_dim(when[:, :, None], dim=1), present.take_along_dim(when, dim=1)
    return MemoryState(hidden.flatten(0, 1), present.flatten()), seconds.flatten()


def _together(terms: list[int], frozen: tuple[int, ...], on_gpu: bool) -> list[list[int]]:
    """Return groups of terms that are decoded in one call: on a GPU as many as can be, on a processor each alone.

    A processor's cache would not hold more.
    """
    if not on_gpu:
        return [[t] for t in terms]
    groups = [[t for t in terms if t not in frozen], [t for t in terms if t in frozen]]
    return [group for group in groups if group]
