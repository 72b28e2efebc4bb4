"""The YAML configuration of a training run; its defaults are the SMVAE paper's robotics settings (Appendix B)."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from smvae_core.errors import ConfigurationError, explain
from smvae_core.model import ModelConfiguration
from smvae_core.objective import ObjectiveConfiguration


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfiguration(_Section):
    """Which part of the logs is held out.

    Attributes:
        held_out: share of trajectories never trained on (30 % in the paper).
        seed: draws them.
    """

    held_out: float = Field(default=0.3, gt=0.0, lt=1.0)
    seed: NonNegativeInt = 0


class TrainingConfiguration(_Section):
    """How the bound is maximised (Adam).

    Attributes:
        schedule: `constant` as in the paper; `cosine` lets the learning rate fall to 0 over the run.
    """

    epochs: PositiveInt = 200
    batch_size: PositiveInt = 100
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    seed: NonNegativeInt = 0


class Configuration(_Section):
    """Everything that a run needs besides the logs."""

    model: ModelConfiguration = ModelConfiguration()
    objective: ObjectiveConfiguration = ObjectiveConfiguration()
    data: DataConfiguration = DataConfiguration()
    training: TrainingConfiguration = TrainingConfiguration()


def load_configuration(path: Path) -> Configuration:
    """Read a YAML file; keys that it leaves out keep their defaults.

    Raises:
        ConfigurationError: unreadable, not YAML, an unknown key or a bad value; the sentence names each.
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
    """The configuration with some keys of some sections replaced and validated; None leaves a key as it is.

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
