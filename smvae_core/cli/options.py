"""Choices that several commands offer."""

from enum import Enum


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
    """Which paper's posterior and objective."""

    smvae = "smvae"
    mvae = "mvae"
    mmvae = "mmvae"
    mopoe = "mopoe"
    jmvae = "jmvae"
    crmvae = "crmvae"
