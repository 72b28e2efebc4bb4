"""The record of how trust was calibrated, as a checkpoint keeps it; `evaluation.trust` measures it."""

from pydantic import BaseModel, ConfigDict


class TrustRecord(BaseModel):
    """The calibration of trust on healthy held-out logs. All tuples are in the order of the model's modalities.

    Attributes:
        hidden: width of the heads.
        calibrated_on: trajectories that gave the figures.
        samples: number of sets.
        period: seconds between the sets.
        threshold: evidence, in nats, at which a modality is distrusted.
        surprise: by modality and number of modalities in the set (from 1 on), ascending quantiles of the log odds that
            the modality is faulty, at equal steps of probability from 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int
    calibrated_on: tuple[str, ...]
    samples: int
    period: float
    threshold: tuple[float, ...]
    surprise: tuple[tuple[tuple[float, ...], ...], ...]
