"""Prediction errors by subset, as absolute and as normalised errors."""

from pydantic import BaseModel, ConfigDict

from smvae_core.subsets import Subset


class SubsetErrors(BaseModel):
    """Errors of the predictions made from one subset, over the samples that have all of it.

    Attributes:
        subset: modalities that the posterior saw.
        samples: how many.
        mse: mean squared error of each modality, model units, predicted by the posterior's mean.
        share: `mse` as a share of that of predicting the training mean; below 1 something was learned.
            Neither names a modality that no such sample has, nor this one that never differs from the mean.
        log_likelihood: log E_{z ~ q(z | X_s)} p(x_m | z) of each modality, in nats, by a few draws of z.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subset: Subset
    samples: int
    mse: dict[str, float]
    share: dict[str, float]
    log_likelihood: dict[str, float] = {}


class Evaluation(BaseModel):
    """Errors of all evaluated subsets, on `samples` held-out samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int
    subsets: tuple[SubsetErrors, ...]

    def of(self, *subset: str) -> SubsetErrors:
        """The errors of one subset, named in any order.

        Raises:
            KeyError: the subset was not evaluated.
        """
        for row in self.subsets:
            if set(row.subset) == set(subset):
                return row
        raise KeyError(subset)
