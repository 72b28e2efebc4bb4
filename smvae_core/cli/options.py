"""Choices that several commands offer."""

from enum import Enum

from smvae_core.systems.registry import SYSTEMS


class DeviceName(str, Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionName(str, Enum):
    """Arithmetic of the networks."""

    full = "32"
    bf16 = "bf16-mixed"
    fp16 = "16-mixed"


class SystemName(str, Enum):
    """Which paper's posterior and objective: the names of the registry."""

    _ignore_ = ["members", "name"]
    members = vars()
    for name in SYSTEMS:
        members[name] = name
