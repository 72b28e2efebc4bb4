"""The records of how trust was calibrated and what it does, as a checkpoint keeps them."""

from pydantic import BaseModel, ConfigDict


class TrustFigures(BaseModel):
    """How well trust does on held-out logs that calibrated nothing; `evaluation.trust_figures` measures it.

    Attributes:
        tested_on: their trajectories.
        minutes: of all of them.
        alarms: healthy trajectories in which a modality would be distrusted.
        episodes: faults of each modality, of 0.8 s, of the kinds and degrees that the training of trust draws.
        noticed: by modality, the part of the faults in which a modality is distrusted before they end.
        blamed: by modality, the part of those in which it is the faulty one; None where none was noticed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tested_on: tuple[str, ...]
    minutes: float
    alarms: int
    episodes: int
    noticed: dict[str, float]
    blamed: dict[str, float | None]


class TrustRecord(BaseModel):
    """The calibration of trust on healthy held-out logs; `evaluation.trust` measures it.

    All tuples are in the order of the model's modalities.

    Attributes:
        hidden: width of the heads.
        traits: traits of raw samples that the heads see; 0: embeddings alone.
        each_still: the heads see how still each trait is; False, as in older checkpoints: all on average.
        calibrated_on: trajectories that gave the figures.
        samples: number of sets.
        period: seconds between the sets.
        threshold: evidence, in nats, at which a modality is distrusted.
        surprise: by modality and number of modalities in the set (from 1 on), ascending quantiles of the log odds that
            the modality is faulty, at equal steps of probability from 0 to 1.
        figures: on other held-out logs; None where there were none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int
    traits: int = 0
    each_still: bool = False
    calibrated_on: tuple[str, ...]
    samples: int
    period: float
    threshold: tuple[float, ...]
    surprise: tuple[tuple[tuple[float, ...], ...], ...]
    figures: TrustFigures | None = None
