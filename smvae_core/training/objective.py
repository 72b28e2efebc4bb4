"""The evidence lower bound of each system (`elbo.bounds`), as a loss.

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
from smvae_core.systems.terms import terms_of


class Bound(NamedTuple):
    """The bound of a batch, in nats.

    Attributes:
        loss: scalar to minimise, the negative bound, mean over the batch.
        kl: KL of the posteriors to the prior, mean over the batch and the terms of the bound.
        rows: log p(x_m | z_t) of each term and sample, unweighted, (T, B, M), 0 where it is not scored.
        scored: (T, B, M), bool, which of them count.
    """

    loss: Tensor
    kl: Tensor
    rows: Tensor
    scored: Tensor


class Objective(nn.Module):
    """The bound of the model's system by one reparameterised sample a term.

    One forward pass, so that it can be distributed. Each modality is encoded once for all terms, and decoded for those
    that explain it.

    Raises:
        BatchError: the batch does not fit the model.
    """

    def __init__(self, model: MultimodalVAE, configuration: ObjectiveConfiguration) -> None:
        super().__init__()
        self.model = model
        self.configuration = configuration

    def forward(self, batch: Batch, draws: Draws, beta: float) -> Bound:
        """The bound of one mini-batch.

        Args:
            batch: observations, as `model.Batch`.
            draws: by `draws.draw`, for this batch; they may stay on the processor.
            beta: weight of the KLs now.
        """
        model = self.model
        embeddings = model.embed(batch, draws.subsets.any(dim=0))
        draws = draws.to(embeddings.device)
        terms = terms_of(model.configuration.system, model.fusion, embeddings, draws, beta, self.configuration)
        explained = torch.zeros_like(terms.cost)
        rows = torch.zeros(draws.targets.shape, device=embeddings.device)
        for column, name in enumerate(model.names):
            if name not in batch:
                continue
            # Terms that never explain a modality do without its decoder. A GPU decodes the others in one call; of a
            # processor's cache that would ask too much. Terms are taken one by one, since an index would make a GPU wait.
            which = draws.explains[:, column].nonzero()[:, 0].tolist()
            # Absent slots may hold NaN, whose gradient would survive the mask below.
            present = draws.targets[:, :, column].any(dim=0).view(-1, *[1] * len(model.modalities[name].shape))
            x = torch.where(present, batch[name], 0.0)
            for some in [which] if embeddings.is_cuda else [[t] for t in which]:
                here = torch.stack([draws.targets[t, :, column] for t in some])
                parameters = model.decode(torch.cat([terms.z[t] for t in some]), [name])[name]
                # Under mixed precision the networks run in half of it, the bound does not.
                parameters = at_least_single(parameters).unflatten(0, here.shape)
                log_p = torch.where(here, log_likelihood(model.modalities[name], x, parameters), 0.0)
                for t, of_term in zip(some, log_p):
                    explained = explained + model.modalities[name].weight * terms.weight[t] * of_term
                    rows[t, :, column] = of_term.detach()
        return Bound((terms.cost - explained).mean(), terms.kl.mean().detach(), rows, draws.targets)
