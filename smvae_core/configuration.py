"""The YAML configuration of a training run.

The defaults are the SMVAE paper's for robotics (Appendix B), except the objective (`systems/smvae.py`).
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from smvae_core.data.corruption import CorruptionConfiguration
from smvae_core.data.sequences import SequenceConfiguration
from smvae_core.errors import ConfigurationError, explain
from smvae_core.model.vae import ModelConfiguration
from smvae_core.preprocessing import Force, Vector
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.registry import objective_settings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


DataFormat = Literal["logs", "lerobot", "robomimic", "aloha", "idx", "celeba", "pictures"]


class DataConfiguration(_Section):
    """Format of the data, the part that is held out, and the modalities taken as missing.

    Attributes:
        format: `logs`, HDF5 files of one trajectory each, of Vision&Touch or with any keys; `lerobot`, a data set of
            LeRobot; `robomimic` and `aloha`, HDF5 files of these projects; `idx`, the four files of MNIST or
            Fashion-MNIST; `celeba`, aligned faces with their attribute file; `pictures`, any folder of them.
        held_out: fraction of the data that is never trained on (30 % in the paper).
        split: `trajectory` holds out whole trajectories, of a single one blocks of time; `time` holds out blocks of
            time of every trajectory, with a margin to the training part; `paper` single steps, whose neighbours are
            trained on; `given` the test part of the data set.
        seed: of the random choice of what is held out.
        missing: trajectory name, or a pattern with * and ?, to the modalities that are taken as missing from it.
        most: train on at most so many samples of the training part, evenly spaced; None for all.
    """

    format: DataFormat = "logs"
    held_out: float = Field(default=0.3, gt=0.0, lt=1.0)
    split: Literal["trajectory", "time", "paper", "given"] = "trajectory"
    seed: NonNegativeInt = 0
    missing: dict[str, tuple[str, ...]] = {}
    most: PositiveInt | None = None


class TrainingConfiguration(_Section):
    """Settings of the optimiser (Adam) and of the loop around it.

    Attributes:
        epochs: passes over the training part.
        batch_size: samples of a step, of all processes together.
        learning_rate: of Adam.
        schedule: `constant` as in the paper; `cosine` lets the learning rate fall to 0 over the run.
        clip: largest norm of the gradient; None for no clipping.
        patience: epochs without better held-out figures after which training stops; None for never.
        save_steps: the state for `--resume` is saved after every epoch, and within an epoch every `save_steps` steps.
        seed: of the weights, the order of the samples, and everything random in a step.
    """

    epochs: PositiveInt = 200
    batch_size: PositiveInt = 100
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    clip: PositiveFloat | None = None
    patience: PositiveInt | None = None
    save_steps: PositiveInt = 2000
    seed: NonNegativeInt = 0


class Configuration(_Section):
    """Everything that a training needs besides the logs.

    Attributes:
        sequences: used by models with memory alone.
    """

    model: ModelConfiguration = ModelConfiguration()
    objective: SerializeAsAny[ObjectiveConfiguration] = Field(default=ObjectiveConfiguration(), validate_default=True)
    data: DataConfiguration = DataConfiguration()
    corruption: CorruptionConfiguration = CorruptionConfiguration()
    sequences: SequenceConfiguration = SequenceConfiguration()
    training: TrainingConfiguration = TrainingConfiguration()

    @field_validator("objective", mode="before")
    @classmethod
    def _settings_of_the_system(cls, given: object, info: ValidationInfo) -> object:
        # A model that is itself wrong is missing here, and reported elsewhere.
        if not isinstance(given, dict | ObjectiveConfiguration) or "model" not in info.data:
            return given
        return objective_settings(info.data["model"].system, given)

    @model_validator(mode="after")
    def _modalities_exist(self) -> "Configuration":
        names = {modality.name for modality in self.model.modalities}
        named = self.objective.named_modalities().union(self.sequences.decoders, *self.data.missing.values())
        if unknown := named - names:
            raise ValueError(f"expected modalities among {sorted(names)}, found {sorted(unknown)}")
        return self

    @model_validator(mode="after")
    def _sequences_are_whole(self) -> "Configuration":
        if self.model.memory is not None and self.data.most is not None:
            raise ValueError(
                f"expected data.most none for a model with memory, found {self.data.most}: samples that are picked "
                "from all over the logs do not follow each other"
            )
        if self.model.memory is not None and self.data.split == "paper":
            raise ValueError(
                "expected data.split 'trajectory', 'time' or 'given' for a model with memory, found 'paper': samples "
                "with single steps held out do not follow each other"
            )
        if self.sequences.decoders and not self.sequences.decoder_epochs:
            raise ValueError(
                "expected sequences.decoders none where sequences.decoder_epochs is 0, since all of the model learns "
                f"in the other epochs, found {', '.join(self.sequences.decoders)}"
            )
        return self

    @model_validator(mode="after")
    def _likelihoods_fit(self) -> "Configuration":
        for modality in self.model.modalities:
            kind, likelihood = modality.preprocessing, modality.likelihood
            open_vector = isinstance(kind, Vector) and (kind.offset is None or kind.scale is None)
            if likelihood in ("bernoulli", "categorical") and (isinstance(kind, Force) or open_vector):
                raise ValueError(
                    f"modality {modality.name}: likelihood '{likelihood}' expected values in [0, 1], found "
                    f"preprocessing '{kind.kind}', which "
                    + ("standardises them unless it has offset and scale" if open_vector else "gives -1 to 1")
                )
            if likelihood == "categorical" and len(modality.shape) != 1:
                raise ValueError(
                    f"modality {modality.name}: likelihood 'categorical' expected a vector, "
                    f"found shape {modality.shape}"
                )
        return self


def load_configuration(path: Path) -> Configuration:
    """Read a YAML file; keys that it leaves out keep their defaults.

    Raises:
        ConfigurationError: the file cannot be read or is not YAML, or holds unknown keys or bad values; all are named.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected YAML, found: {' '.join(str(error).split())}") from None
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    try:
        return Configuration.model_validate(content or {})
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {explain(error)}") from None


def changed(configuration: Configuration, changes: dict[str, dict[str, Any]]) -> Configuration:
    """Return the configuration with the keys in `changes` replaced, by section; None leaves a key as it is.

    Raises:
        ConfigurationError: a bad value.
    """
    content = configuration.model_dump()
    for section, values in changes.items():
        content[section] |= {key: value for key, value in values.items() if value is not None}
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
