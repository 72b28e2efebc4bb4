"""The package itself: its public names, and what importing it costs."""

import subprocess
import sys

import pytest

import smvae_core


@pytest.mark.parametrize("name", ["Engine", "MultimodalVAE", "Modality", "ModelConfiguration"])
def test_public_names_come_from_the_package(name):
    found = getattr(smvae_core, name)
    assert found.__name__ == name and found.__module__.startswith("smvae_core.")
    assert name in dir(smvae_core) and name in smvae_core.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'smvae_core' has no attribute 'Enigne'"):
        smvae_core.Enigne  # noqa: B018


@pytest.mark.parametrize("module", ["smvae_core", "smvae_core.cli.commands", "smvae_core.device"])
def test_importing_it_imports_neither_torch_nor_ros(module):
    script = f"import sys, {module}; assert not {{'torch', 'rclpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_documented_import_works():
    subprocess.run(
        [sys.executable, "-c", "from smvae_core import Engine, MultimodalVAE, Modality, ModelConfiguration"], check=True
    )


QUICK = """
import sys
from smvae_core.quick_torch import import_torch

import_torch()
import torch

assert "torch._refs" not in sys.modules
from smvae_core import Engine

engine = Engine.load(None, "cpu")
engine.warm_up()
assert set(engine.timings) == {"eager", "channels_last", "onnx"}
import torch._meta_registrations
from torch._subclasses.fake_tensor import FakeTensorMode

assert torch._meta_registrations.__file__
with FakeTensorMode():
    assert torch.nn.functional.conv2d(torch.ones(1, 2, 8, 8), torch.ones(3, 2, 3, 3)).shape == (1, 3, 6, 6)
"""


def test_torch_that_was_imported_quickly_runs_every_back_end_and_still_has_the_rest():
    import onnxruntime  # noqa: F401  (skipped without it)

    subprocess.run([sys.executable, "-c", QUICK], check=True)


NEEDS_THE_REST = """
from smvae_core.quick_torch import import_torch

import_torch()
import torch

torch._dynamo
import lightning_fabric

model = torch.export.export(torch.nn.Conv2d(2, 3, 3), (torch.ones(1, 2, 8, 8),)).module()
assert model(torch.ones(1, 2, 8, 8)).shape == (1, 3, 6, 6)
"""


def test_what_needs_the_rest_of_torch_brings_it_along():
    subprocess.run([sys.executable, "-c", NEEDS_THE_REST], check=True)
