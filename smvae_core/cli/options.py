"""Options that several commands share."""

import shlex
import sys
from enum import Enum
from typing import Annotated

import typer

from smvae_core.device import checked_device
from smvae_core.systems.registry import SYSTEMS


class PrecisionName(str, Enum):
    """Arithmetic of the networks."""

    full = "32"
    tf32 = "tf32"
    bf16 = "bf16-mixed"
    fp16 = "16-mixed"


class SystemName(str, Enum):
    """Which paper's posterior and objective: the names of the registry."""

    _ignore_ = ["members", "name"]
    members = vars()
    for name in SYSTEMS:
        members[name] = name


def typed_command() -> str:
    """Return the command of this process as one types it, to be kept in what it makes."""
    return shlex.join(["smvae", *sys.argv[1:]])


def _device(name: str) -> str:
    try:
        return checked_device(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_device,
        metavar="auto|cpu|cuda|cuda:N",
        help="'auto' takes the first GPU if it works, else the processor.",
    ),
]
PrecisionOption = Annotated[
    PrecisionName, typer.Option("--precision", help="Arithmetic of the networks; the bound stays in 32 bits.")
]
