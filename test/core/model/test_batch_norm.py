"""Batch normalisation: masked rows, half precision, and a torch without `distributed`."""

import copy
import sys

import pytest
import torch
from torch import nn

from smvae_core.model.batch_norm import BatchNorm, VectorBatchNorm, statistics_of

from ... import programs


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), BatchNorm(3), nn.SiLU(), nn.Flatten(), nn.Linear(48, 5), VectorBatchNorm(5)
    )


@pytest.mark.parametrize("rows", [[0, 2, 3], [1], [0, 1, 2, 3, 4, 5]], ids=["some", "one", "all"])
def test_a_masked_batch_is_the_gathered_one(rows):
    """Outputs, gradients and running statistics, to 1e-6; other rows have no influence."""
    gathered, x = network(), torch.randn(6, 2, 6, 6)
    masked = copy.deepcopy(gathered)
    mask = torch.zeros(6, dtype=torch.bool).index_fill(0, torch.tensor(rows), True)
    weight = torch.randn(6, 5)
    expected = gathered(x[mask])
    (expected * weight[mask]).sum().backward()
    with statistics_of(masked, mask):
        found = masked(torch.where(mask[:, None, None, None], x, 7.0))
    (torch.where(mask[:, None], found, 0.0) * weight).sum().backward()
    torch.testing.assert_close(found[mask], expected, atol=1e-6, rtol=1e-5)
    for one, other in zip(gathered.parameters(), masked.parameters()):
        torch.testing.assert_close(other.grad, one.grad, atol=2e-5, rtol=1e-4)
    for name, expected_buffer in gathered.named_buffers():
        torch.testing.assert_close(masked.get_buffer(name), expected_buffer, atol=1e-6, rtol=1e-6)
    assert all(module.rows is None for module in masked if isinstance(module, BatchNorm))


def test_without_a_row_the_running_statistics_stay_and_normalise():
    norm = BatchNorm(3)
    norm.running_mean.fill_(2.0)
    with statistics_of(norm, torch.zeros(4, dtype=torch.bool)):
        found = norm(torch.full((4, 3, 2, 2), 2.0))
    assert torch.equal(found, torch.zeros(4, 3, 2, 2))
    assert torch.equal(norm.running_mean, torch.full((3,), 2.0)) and norm.num_batches_tracked == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_processes_that_train_in_half_precision_square_in_more(monkeypatch, dtype):
    monkeypatch.setattr("smvae_core.model.batch_norm._processes", lambda: 2)
    monkeypatch.setattr("torch.distributed.nn.functional.all_reduce", lambda sums: sums)
    x = (300.0 + torch.randn(8, 3, 16, 16)).to(dtype)
    norm = BatchNorm(3, momentum=1.0)
    found = norm(x)
    exact = x.double()
    torch.testing.assert_close(norm.running_mean.double(), exact.mean((0, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(norm.running_var.double(), exact.var((0, 2, 3)), rtol=1e-4, atol=0)
    assert found.dtype == dtype and abs(float(found.float().std()) - 1.0) < 0.02


def test_a_torch_without_distributed_runs_a_model():
    """As some wheels for Jetson are built."""
    script = """
import sys
import torch
torch.distributed.is_available = lambda: False
for name in ("is_initialized", "get_world_size"):
    delattr(torch.distributed, name)
for name in ("torch.distributed.nn", "torch.distributed.nn.functional"):
    sys.modules[name] = None
from smvae_core import Engine
engine = Engine.load(None, "cpu", "eager")
engine.warm_up()
print(engine.infer({}).mean.shape)
"""
    done = programs.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(64,)"
