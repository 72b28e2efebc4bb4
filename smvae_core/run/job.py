"""What the trainer is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smvae_core.configuration import Configuration
from smvae_core.engine import Device

Precision = Literal["32", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        data: folder of logs.
        out: folder of the run.
        configuration: of the run.
        command: how it was called, kept in the checkpoint.
        device: of each process.
        precision: of the networks.
        cache: folder for the cache; None puts it beside the logs.
        skip_bad: go on without log files that cannot be used.
        resume: go on with the run in `out`, if there is one.
    """

    data: Path
    out: Path
    configuration: Configuration
    command: str
    device: Device = "auto"
    precision: Precision = "32"
    cache: Path | None = None
    skip_bad: bool = False
    resume: bool = False
