"""The device that a model runs on."""

from typing import Literal, get_args

import torch

from smvae_core.errors import SMVAEError

Device = Literal["auto", "cpu", "cuda"]


class EngineError(SMVAEError):
    """The engine cannot run where or on what it was asked to."""


def torch_device(device: Device) -> torch.device:
    """The device of that name; `auto` takes a GPU where there is one.

    Raises:
        EngineError: an unknown one, or `cuda` was asked for and is not there.
    """
    if device not in get_args(Device):
        raise EngineError(f"device: expected one of {', '.join(get_args(Device))}, found '{device}'")
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("device: 'cuda' was asked for, but torch finds none; choose 'cpu' or 'auto'")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
