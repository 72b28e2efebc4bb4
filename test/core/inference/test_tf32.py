"""TF32, emulated on a processor: what it costs, and that the stated tolerances fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode

from smvae_core.checkpoint import Checkpoint, Metadata, default_checkpoint, load
from smvae_core.inference.backend import TF32_TOLERANCE, TOLERANCE, BackendError, TorchBackend, disagreement, trial
from smvae_core.inference.building import BUILD
from smvae_core.inference.engine import Engine
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE

CPU = torch.device("cpu")
F = torch.nn.functional
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d, torch.conv2d)
PRODUCTS = (F.linear, torch.einsum, torch.matmul, torch.baddbmm, torch.Tensor.matmul, torch.Tensor.__matmul__)


def rounded(x: object) -> object:
    """Round a tensor to the 10 bits of mantissa that TF32 has."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class EmulatedTF32(TorchFunctionMode):
    """Rounds the factors of convolutions and products."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in CONVOLUTIONS or func in PRODUCTS:
            args = (*(rounded(x) for x in args[:2]), *args[2:])
        return func(*args, **(kwargs or {}))


class TF32Backend(TorchBackend):
    """Eager with emulated TF32."""

    def run(self, arrays, masks, predict, recalled=None):
        with EmulatedTF32():
            return super().run(arrays, masks, predict, recalled)


@contextmanager
def channels_last_with_tf32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(
        BUILD, "channels_last", lambda model, device, tf32: TF32Backend(model, device, torch.contiguous_format)
    )
    yield


def loaded(size: str) -> Checkpoint:
    if size == "shipped":
        return load(default_checkpoint())
    torch.manual_seed(0)
    configuration = ModelConfiguration(size="paper")
    metadata = Metadata(format=1, package_version="", model=configuration)
    return Checkpoint(MultimodalVAE(configuration).eval(), {}, metadata)


@pytest.mark.parametrize("size", ["shipped", "paper"])
def test_the_tolerance_of_tf32_fits(size):
    model = loaded(size).model
    eager, tf32 = (kind(model, CPU, torch.contiguous_format) for kind in (TorchBackend, TF32Backend))
    arrays, masks = trial(model.configuration)
    found = disagreement(tf32, eager, arrays, masks[[0, 5, -2, -1]])
    # The rest is for the other order of sums of another processor.
    assert 0.0 < found <= 0.7 * TF32_TOLERANCE


def test_with_tf32_a_back_end_does_not_agree_in_single_precision_and_does_to_its_own_tolerance(monkeypatch):
    model = loaded("shipped")
    with channels_last_with_tf32(monkeypatch):
        with pytest.raises(BackendError, match=f"to agree with eager to {TOLERANCE:g}, found"):
            Engine(model, "cpu", "channels_last")
        assert Engine(model, "cpu", "channels_last", "tf32").backend == "channels_last"


def test_back_ends_are_compared_set_by_set(monkeypatch):
    """Batches of another size take other kernels, with other rounding, so a batch is not compared with single sets."""
    seen: list[int] = []
    run = TorchBackend.run

    def counting(self, arrays, masks, predict, recalled=None):
        seen.append(len(masks))
        return run(self, arrays, masks, predict, recalled)

    monkeypatch.setattr(TorchBackend, "run", counting)
    Engine(loaded("shipped"), "cpu", "channels_last")
    assert seen and set(seen) == {1}
