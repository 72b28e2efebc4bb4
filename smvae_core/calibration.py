"""Records of how far σ and predicted intervals can be trusted, by subset; `evaluation.calibration` measures them."""

from pydantic import BaseModel, ConfigDict

from smvae_core.subsets import Subset


class SubsetCalibration(BaseModel):
    """Calibration of one subset, over the test samples that have all of it.

    Attributes:
        subset: modalities that the posterior saw.
        samples: number of test samples that have all of `subset`.
        z2: mean over samples and active dimensions of [(μ_full − μ_S)² + σ_full²] / σ_S², where "full" is all that the
            sample has. 1 for a calibrated posterior, above 1 where σ_S is too small. None without an active dimension.
        kl: mean KL(q(z | X_S) ‖ p(z)), nats.
        coverage: by modality, the part of its entries that lie in the predicted interval of each level of
            `Calibration.levels`. Entries that hardly vary are left out.
        factors: by modality, the factor of each level by which the intervals were widened, fitted on the calibration
            part; 1 where the spread of the posterior and the residual say all. Empty in older records.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subset: Subset
    samples: int
    z2: float | None
    kl: float
    coverage: dict[str, tuple[float, ...]]
    factors: dict[str, tuple[float, ...]] = {}


class Calibration(BaseModel):
    """Calibration of a model on held-out data.

    Attributes:
        fitted_on: trajectories on which the residual scales were measured.
        tested_on: trajectories on which everything else was measured.
        samples: number of samples of both parts.
        split: `trajectory`, or `time` where only one trajectory is held out, whose first half is `fitted_on`.
        latent: dimensions of z.
        active: number of dimensions whose mean KL, from all that a sample has, is above 0.05 nats.
        levels: of the predicted intervals, for example 0.9.
        subsets: one for each subset, in the order of `judged_subsets`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fitted_on: tuple[str, ...]
    tested_on: tuple[str, ...]
    samples: tuple[int, int]
    split: str
    latent: int
    active: int
    levels: tuple[float, ...]
    subsets: tuple[SubsetCalibration, ...]

    def of(self, *subset: str) -> SubsetCalibration:
        """Return the calibration of one subset, whose modalities may be named in any order.

        Raises:
            KeyError: the subset was not measured.
        """
        for row in self.subsets:
            if set(row.subset) == set(subset):
                return row
        raise KeyError(subset)

    @property
    def origin(self) -> str:
        """The samples that were used, in words."""
        other = "of other trajectories" if self.split == "trajectory" else "of the later half of the same trajectory"
        return f"residual scales measured on {self.samples[0]:,} samples, the rest on {self.samples[1]:,} {other}"

    def coverage(self, row: SubsetCalibration, level: float) -> dict[str, float]:
        """Return by modality the part of the entries inside the interval of a level, from one subset.

        Raises:
            ValueError: the level was not measured.
        """
        column = self.levels.index(level)
        return {name: found[column] for name, found in row.coverage.items()}
