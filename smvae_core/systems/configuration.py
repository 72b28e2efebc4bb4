"""What is maximised in training."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from smvae_core.systems.smvae import System

Probability = Annotated[float, Field(gt=0.0, le=1.0)]


class ObjectiveConfiguration(BaseModel):
    """What is maximised. A setting that not all systems use must keep its default where it is not used.

    Attributes:
        beta: weight of the KL term at the end of its annealing.
        anneal_epochs: β grows linearly from 0 over so many epochs (150 of 200 in the paper); 0 for none.
        full_set: SMVAE: probability that a sample trains with everything it has; otherwise each modality is kept with
            probability `keep`, at least one.
        keep: SMVAE: see `full_set`; one for all modalities, or by name (0.5 for those not named). 0.5 draws uniformly
            from the power set of Eq. 4; what comes out empty becomes one modality.
        reconstruct: SMVAE: `observed` scores only the modalities in the subset, as Eq. 3 is written; `available` scores
            all that the sample has, which trains cross-modal prediction directly.
        pull: SMVAE: weight of the L2 pull of μ to 0 and σ to 1 (end of §3.2).
        random_subsets: MVAE: random subsets that train beside everything and each modality alone (k of its Eq. 5).
        alpha: JMVAE: weight of the KLs from the joint encoder to the unimodal ones (α of its Eq. 5).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: NonNegativeFloat = 1.0
    anneal_epochs: NonNegativeInt = 150
    full_set: float = Field(default=0.2, ge=0.0, le=1.0)
    keep: Probability | dict[str, Probability] = 0.5
    reconstruct: Literal["available", "observed"] = "available"
    pull: NonNegativeFloat = 0.0
    random_subsets: NonNegativeInt = 0
    alpha: NonNegativeFloat = 0.1

    def annealed_beta(self, epoch: float) -> float:
        """β at a (fractional) epoch counted from 0."""
        return self.beta * min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else self.beta

    def keep_of(self, names: Sequence[str]) -> Tensor:
        """Probability that each modality is kept, (M,)."""
        by_name = self.keep if isinstance(self.keep, dict) else dict.fromkeys(names, self.keep)
        return torch.tensor([by_name.get(name, 0.5) for name in names])

    def without_effect(self, system: System) -> list[str]:
        """Settings that differ from their defaults and that the system does not use."""
        users = {"full_set": "smvae", "keep": "smvae", "reconstruct": "smvae", "pull": "smvae"}
        users |= {"random_subsets": "mvae", "alpha": "jmvae"}
        defaults = ObjectiveConfiguration()
        return [key for key, user in users.items() if user != system and getattr(self, key) != getattr(defaults, key)]
