"""The bound of the model's system (`systems/`), as a loss.

Eq. 2 and 4 of the SMVAE paper print "argmin" before a bound that is maximised; here `loss` is the negative bound, to be
minimised.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import at_least_single
from smvae_core.systems.registry import objective_settings
from smvae_core.systems.terms import Step


class Bound(NamedTuple):
    """The bound of a batch, in nats.

    Attributes:
        loss: scalar to minimise, the negative bound, mean over the batch.
        kl: KL of the posteriors to the prior, mean over the batch and the terms of the bound.
        rows: log p(x_m | z_t) of each term and sample, unweighted, (T, B, M), 0 where it is not scored.
        scored: (T, B, M), bool, which entries of `rows` count.
    """

    loss: Tensor
    kl: Tensor
    rows: Tensor
    scored: Tensor


class Objective(nn.Module):
    """The bound of the model's system, by one reparameterised sample per term.

    One forward pass, so that it can be distributed. Each modality is embedded once for all terms, and decoded for the
    terms that explain it.

    Args:
        model: its system says which bound.
        settings: of the system's objective; common settings alone leave the system's own at their defaults.

    Raises:
        BatchError: the batch does not fit the model.
    """

    def __init__(self, model: MultimodalVAE, settings: ObjectiveConfiguration) -> None:
        super().__init__()
        self.model = model
        self.settings = objective_settings(model.configuration.system, settings)

    def forward(self, batch: Batch, draws: Draws, beta: float) -> Bound:
        """Compute the bound of one mini-batch.

        Args:
            batch: observations.
            draws: by the system's `draw`, for this batch; they may be on the processor.
            beta: weight of the KLs now.
        """
        model = self.model
        embeddings = model.embed(batch, draws.subsets.any(dim=0))
        draws = draws.to(embeddings.device)
        terms = model.system.terms(model.fusion, Step(embeddings, draws, beta), self.settings)
        explained = torch.zeros_like(terms.cost)
        rows = torch.zeros(draws.targets.shape, device=embeddings.device)
        for column, name in enumerate(model.names):
            if name not in batch:
                continue
            # Terms that never explain a modality skip its decoder. A GPU decodes the others in one call, which would
            # exceed a processor's cache. Terms are taken one by one, since an index tensor would make a GPU wait.
            which = draws.explains[:, column].nonzero()[:, 0].tolist()
            # Absent slots may hold NaN, whose gradient would survive the mask below.
            present = draws.targets[:, :, column].any(dim=0).view(-1, *[1] * len(model.modalities[name].shape))
            x = torch.where(present, batch[name], 0.0)
            for some in [which] if embeddings.is_cuda else [[t] for t in which]:
                here = torch.stack([draws.targets[t, :, column] for t in some])
                parameters = model.decode(torch.cat([terms.z[t] for t in some]), [name])[name]
                # Also under mixed precision the bound is computed in single precision.
                parameters = at_least_single(parameters).reshape(*here.shape, *parameters.shape[1:])
                log_p = torch.where(here, log_likelihood(model.modalities[name], x, parameters), 0.0)
                for t, of_term in zip(some, log_p):
                    explained = explained + model.modalities[name].weight * terms.weight[t] * of_term
                    rows[t, :, column] = of_term.detach()
        return Bound((terms.cost - explained).mean(), terms.kl.mean().detach(), rows, draws.targets)
