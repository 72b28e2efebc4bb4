"""The settings that the objectives of all systems share. Each system's file extends them by its own."""

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt


class ObjectiveConfiguration(BaseModel):
    """The settings of an objective.

    Attributes:
        beta: weight of the KL term at the end of its annealing.
        anneal_epochs: β grows linearly from 0 over so many epochs (150 of 200 in the paper); 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: NonNegativeFloat = 1.0
    anneal_epochs: NonNegativeInt = 150

    def annealed_beta(self, epoch: float) -> float:
        """Return β at a (fractional) epoch counted from 0."""
        return self.beta * min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else self.beta

    def ramp(self, step: int) -> float:
        """Return the weight from 0 to 1 that new terms of the bound have at a step counted from 0."""
        return 1.0

    def named_modalities(self) -> set[str]:
        """Return the modalities that the settings mention by name; each must exist."""
        return set()
