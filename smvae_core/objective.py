"""The evidence lower bound of random subsets (Eq. 2 to 4 of the SMVAE paper).

Eq. 2 and 4 print "argmin" before a bound that is maximised; here `loss` is the negative bound, to be minimised.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn

from smvae_core.fusion import Posterior
from smvae_core.likelihood import log_likelihood
from smvae_core.model import Batch, MultimodalVAE

Probability = Annotated[float, Field(gt=0.0, le=1.0)]


class ObjectiveConfiguration(BaseModel):
    """What is maximised.

    Attributes:
        beta: weight of the KL term at the end of its annealing.
        anneal_epochs: β grows linearly from 0 over so many epochs (150 of 200 in the paper); 0 for none.
        full_set: probability that a sample trains with everything it has; otherwise each modality is kept with
            probability `keep`, at least one.
        keep: see `full_set`; one for all modalities, or by name (0.5 for those not named). 0.5 draws uniformly from the
            subsets.
        reconstruct: `observed` scores only the modalities in the subset, as Eq. 3 is written; `available` scores all
            that the sample has, which trains cross-modal prediction directly.
        pull: weight of the L2 pull of μ to 0 and σ to 1 (end of §3.2).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: NonNegativeFloat = 1.0
    anneal_epochs: NonNegativeInt = 150
    full_set: float = Field(default=0.2, ge=0.0, le=1.0)
    keep: Probability | dict[str, Probability] = 0.5
    reconstruct: Literal["available", "observed"] = "available"
    pull: NonNegativeFloat = 0.0

    def annealed_beta(self, epoch: float) -> float:
        """β at a (fractional) epoch counted from 0."""
        return self.beta * min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else self.beta

    def keep_of(self, names: Sequence[str]) -> Tensor:
        """Probability that each modality is kept, (M,)."""
        by_name = self.keep if isinstance(self.keep, dict) else dict.fromkeys(names, self.keep)
        return torch.tensor([by_name.get(name, 0.5) for name in names])


class Bound(NamedTuple):
    """The terms of the bound, means over the batch, in nats.

    Attributes:
        loss: scalar to minimise: -Σ_m λ_m log p(x_m | z) + β KL + pull.
        kl: KL(q(z | X_s) ‖ p(z)).
        log_likelihood: by modality, unweighted, over the samples that have it.
        rows: log p(x_m | z) of each sample, (B, M), 0 where it is not scored.
        scored: (B, M), bool, which of them count.
    """

    loss: Tensor
    kl: Tensor
    log_likelihood: dict[str, Tensor]
    rows: Tensor
    scored: Tensor


class SubsetObjective(nn.Module):
    """Eq. 3 for the subset of each row, by one reparameterised sample. One forward pass, so that it can be distributed.

    Raises:
        BatchError: the batch does not fit the model.
    """

    def __init__(self, model: MultimodalVAE, configuration: ObjectiveConfiguration) -> None:
        super().__init__()
        self.model = model
        self.configuration = configuration

    def forward(
        self, batch: Batch, available: Tensor, subset: Tensor, beta: float, noise: Tensor | None = None
    ) -> Bound:
        """The bound of one mini-batch.

        Args:
            batch: observations, as `model.Batch`.
            available: (B, M), bool, what each sample has.
            subset: (B, M), bool, what its posterior may see; must lie within `available`. It may stay on the processor.
            beta: weight of the KL term now.
            noise: ε of Eq. 6, (B, L); drawn where it is not given.
        """
        # Under mixed precision the networks run in half of it, the bound does not.
        posterior = Posterior(*(x.float() for x in self.model.posterior(batch, subset)))
        z = posterior.sample(noise)
        decoded = self.model.decode(z, [name for name in self.model.names if name in batch])
        scored = (available if self.configuration.reconstruct == "available" else subset).to(z.device)

        weighted = z.new_zeros(len(z))
        rows, log_likelihoods = z.new_zeros(scored.shape), {}
        for column, name in enumerate(self.model.names):
            if name not in decoded:
                continue
            modality, here = self.model.modalities[name], scored[:, column]
            # Absent slots may hold NaN, whose gradient would survive the mask below.
            x = torch.where(here.view(-1, *[1] * len(modality.shape)), batch[name], 0.0)
            log_p = torch.where(here, log_likelihood(modality, x, decoded[name].float()), 0.0)
            weighted = weighted + modality.weight * log_p
            rows[:, column] = log_p.detach()
            log_likelihoods[name] = rows[:, column].sum() / here.sum().clamp(min=1)

        kl = posterior.kl_to_prior()
        loss = (beta * kl - weighted).mean() + self.configuration.pull * _pull(posterior)
        return Bound(loss, kl.mean().detach(), log_likelihoods, rows, scored)


def random_subsets(
    available: Tensor, config: ObjectiveConfiguration, generator: torch.Generator, names: Sequence[str] | None = None
) -> Tensor:
    """X_s ~ P(X) for each row (Eq. 4), never empty where the row has anything: (B, M), bool.

    Args:
        available: (B, M), bool, on the processor.
        generator: of the processor; the same state draws the same subsets.
        names: modalities of the columns; needed where `config.keep` names some.
    """
    rows, columns = available.shape
    probability = torch.tensor(config.keep) if names is None else config.keep_of(names)
    keep = torch.rand(rows, columns, generator=generator) < probability
    full = torch.rand(rows, 1, generator=generator) < config.full_set
    subset = available & (keep | full)
    # A row that drew nothing keeps one modality of its own, each equally likely.
    chosen = torch.rand(rows, columns, generator=generator).masked_fill(~available, -1.0).argmax(dim=1, keepdim=True)
    one = torch.zeros_like(available).scatter(1, chosen, True) & available
    return torch.where(subset.any(dim=1, keepdim=True), subset, one)


def _pull(posterior: Posterior) -> Tensor:
    sigma = (0.5 * posterior.log_variance).exp()
    return (posterior.mean.square() + (sigma - 1.0).square()).sum(dim=1).mean()
