"""The device that a model runs on: its name, whether it works, and the arithmetic that it uses."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from smvae_core.errors import SMVAEError

if TYPE_CHECKING:  # torch takes seconds to import; settings and --help do without
    import torch

_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")
_log = logging.getLogger(__name__)


class EngineError(SMVAEError):
    """A model cannot run on the device, or on the arrays, that it was given."""


class DeviceLostError(EngineError):
    """A GPU stopped working; only a new process can use it again."""


def checked_device(name: str) -> str:
    """Return the name of a device if it is one: `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.

    Raises:
        ValueError: it is not; the sentence says what was expected.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected auto, cpu, cuda or cuda:N, found '{name}'")
    return name


Device = Annotated[str, AfterValidator(checked_device)]
"""Name of a device; `torch_device` finds the device itself."""


def torch_device(device: Device, warn: Callable[[str], None] = _log.warning) -> torch.device:
    """Return the device of that name; `auto` takes the first GPU if it works, else the processor.

    A GPU works if it runs a small matrix product and a small convolution, so a driver that is too old and a torch
    without kernels for the GPU are found here.

    Args:
        device: a name.
        warn: is told why `auto` takes the processor although there is a GPU.

    Raises:
        EngineError: an unknown name, or a GPU that was named is missing or does not work.
    """
    import torch

    try:
        checked_device(device)
    except ValueError as error:
        raise EngineError(f"device: {error}") from None
    if device == "cpu":
        return torch.device("cpu")
    gpu = torch.device("cuda" if device == "auto" else device)
    reason = _why_missing(gpu)
    if reason is None:
        reason = _why_broken(gpu)
        if reason is not None and device == "auto":
            warn(f"device: {reason}; running on the processor")
    elif device == "auto":
        _log.info("device: %s; running on the processor", reason)
    if reason is None:
        return gpu
    if device == "auto":
        return torch.device("cpu")
    raise EngineError(f"device: '{device}' was asked for, but {reason}; choose 'cpu' or 'auto'")


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turn the errors of a GPU inside into one sentence each.

    Raises:
        EngineError: the GPU is out of memory, or failed once and works again.
        DeviceLostError: it fails at everything from now on.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{device}: out of memory ({first_line(error)}); end other programs on it, or choose device 'cpu'"
        ) from error
    except RuntimeError as error:
        if device.type != "cuda":
            raise
        if _why_broken(device) is None:
            raise EngineError(f"{device}: {first_line(error)}") from error
        raise DeviceLostError(
            f"{device}: the GPU stopped working ({first_line(error)}); restart the process"
        ) from error


@contextmanager
def arithmetic(device: torch.device, tf32: bool = False) -> Iterator[None]:
    """Fix the arithmetic of a GPU inside: 32-bit floats with or without TF32, and deterministic algorithms of cuDNN.

    TF32 rounds the factors of matrix products and convolutions to 10 bits of mantissa, on GPUs since Ampere. PyTorch's
    own default uses it in convolutions but not in matrix products. The settings are the process's, not the thread's.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, products.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, products.allow_tf32 = tf32, True, False, tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, products.allow_tf32 = before


def first_line(error: BaseException) -> str:
    """Return the first line of an error of torch; the others advise developers of torch."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip()


def _why_missing(gpu: torch.device) -> str | None:
    """Return why torch does not find the GPU; None if it does."""
    import torch

    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return f"torch {torch.__version__} is built without CUDA"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found > (gpu.index or 0):
        return None
    # Torch only warns of a driver that is too old or missing.
    told = "".join(f" ({str(warning.message).splitlines()[0].split(' (Triggered')[0]})" for warning in caught[:1])
    return f"torch finds {found or 'no'} GPU{'s' if found > 1 else ''}{told}"


def _why_broken(gpu: torch.device) -> str | None:
    """Return why the GPU cannot run a model; None if it can."""
    try:
        _probe(gpu)
    except Exception as error:  # torch raises RuntimeError, AssertionError and others, by build and driver
        reason = first_line(error)
        if "no kernel image" in reason:
            reason += f"; this torch {_kernels()}, install one that is built for this GPU"
        return f"{gpu} fails at the first kernel ({reason})"
    return None


def _probe(gpu: torch.device) -> None:
    """Run one product (cuBLAS) and one convolution (cuDNN), and wait for the results."""
    import torch

    ones = torch.ones(1, 1, 4, 4, device=gpu)
    product = (ones @ ones).sum() + torch.nn.functional.conv2d(ones, ones).sum()
    if product.item() != 80.0:
        raise RuntimeError(f"expected 80 from a probe, found {product.item()}")


def _kernels() -> str:
    import torch

    return f"has kernels for {', '.join(torch.cuda.get_arch_list()) or 'no GPU'}"
