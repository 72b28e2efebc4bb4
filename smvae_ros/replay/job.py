"""The replay job: checkpoint, settings and faults as data that can be sent to other processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smvae_core import checkpoint as checkpoints
from smvae_core.device import Device
from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_ros.replay.summary import Kind, WhatIf
from smvae_ros.replay.what_if import parse_what_if
from smvae_ros.settings import FusionSettings, default_settings


@dataclass(frozen=True)
class ReplayJob:
    """The work to do with each bag.

    Attributes:
        checkpoint: None takes the one that ships.
        changes: changes to the default settings, for `FusionSettings.changed`, in order.
        device: where the model runs.
        faults: as the command line words them, by kind, for `parse_what_if`.
        write_bag: also write latents and predictions as a rosbag2.
        subset_rate: sets a second whose images are predicted from every subset; 0 takes every set, None depends on the
            length of the bag (`usual_rate`).

    Raises:
        ConfigurationError: `subset_rate` is no such number.
    """

    checkpoint: Path | None = None
    changes: tuple[dict[str, Any], ...] = ()
    device: Device = "auto"
    faults: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    write_bag: bool = False
    subset_rate: float | None = None

    def __post_init__(self) -> None:
        if self.subset_rate is not None and not 0.0 <= self.subset_rate < math.inf:
            raise ConfigurationError(
                f"subset_rate: expected a number of sets a second, or 0 for every set, found {self.subset_rate:g}"
            )

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint's file."""
        return self.checkpoint or checkpoints.default_checkpoint()

    def settings(self, modalities: Sequence[Modality]) -> FusionSettings:
        """Return how the messages of these modalities become sets.

        Raises:
            ConfigurationError: a change that the settings do not take.
        """
        chosen = default_settings(modalities)
        for change in self.changes:
            chosen = chosen.changed(change)
        return chosen

    def what_if(self, settings: FusionSettings, modalities: Sequence[Modality]) -> WhatIf:
        """Return the faults to put on top of what was recorded.

        Raises:
            WhatIfError: a fault that cannot be understood.
        """
        return parse_what_if(self.faults, settings, modalities)

    def check(self) -> WhatIf:
        """Return the faults, after a check of all that does not depend on the bag.

        Raises:
            CheckpointError, ConfigurationError, WhatIfError: what is wrong with the job.
        """
        modalities = checkpoints.read_metadata(self.checkpoint_path).model.modalities
        settings = self.settings(modalities)
        settings.bindings(modalities)
        return self.what_if(settings, modalities)
