"""A model as one ONNX file, used as another runtime would use it."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from smvae_core import checkpoint
from smvae_core.checkpoint import Checkpoint, TrainingRecord
from smvae_core.configuration import Configuration
from smvae_core.inference import onnx_export
from smvae_core.inference.backend import BackendError
from smvae_core.subsets import all_subsets, subset_mask

from ... import programs


@pytest.fixture
def saved(tmp_path, model) -> Checkpoint:
    record = TrainingRecord(data="none", commands=(), configuration=Configuration(), epochs=0, samples=0, held_out=())
    checkpoint.save(tmp_path / "model.safetensors", model, {}, record, None)
    return checkpoint.load(tmp_path / "model.safetensors")


def smvae(*arguments: object, before: str = "") -> subprocess.CompletedProcess:
    """Run a command to its end."""
    code = f"import sys\n{before}\nfrom smvae_core.cli.commands import main\nmain()"
    return programs.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("rows", [1, 6])
def test_the_file_gives_what_the_model_gives_for_every_subset(tmp_path, saved, model, batch, rows):
    file = tmp_path / "out" / "model.onnx"
    exported = onnx_export.export_onnx(saved, file)
    assert exported.subsets == 16 and exported.difference <= 1e-4

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for subset in [*all_subsets(model.names), ()]:
        mask = subset_mask(model.names, [subset]).expand(rows, -1)
        seen = {name: x[:rows].numpy().copy() for name, x in batch.items()}
        for name in set(model.names) - set(subset):
            seen[name][:] = np.nan
        found = dict(zip(names, session.run(None, seen | {"mask": mask.numpy()})))
        with torch.no_grad():
            posterior = model.posterior({name: x[:rows] for name, x in batch.items()}, mask)
            predictions = model.predict(posterior.mean)
        for name, expected in posterior._asdict().items():
            np.testing.assert_allclose(found[name], expected, atol=1e-4)
        for name, expected in predictions.items():
            np.testing.assert_allclose(found[f"predicted_{name}"], expected, atol=1e-4)


def test_rows_of_one_batch_may_hold_different_sets(tmp_path, saved, model, batch):
    onnx_export.export_onnx(saved, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    mask = subset_mask(model.names, [("rgb",), ("depth", "force"), (), model.names, ("action",), ("rgb", "action")])
    found = session.run(["mean"], {name: x.numpy() for name, x in batch.items()} | {"mask": mask.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, model.posterior(batch, mask).mean, atol=1e-4)


def test_the_file_says_what_it_takes(tmp_path, saved):
    exported = onnx_export.export_onnx(saved, tmp_path / "model.onnx")
    assert exported.inputs == {
        "rgb": "B×3×64×64",
        "depth": "B×1×64×64",
        "force": "B×6×32",
        "action": "B×4",
        "mask": "B×4",
    }
    assert exported.outputs["mean"] == "B×64" and exported.outputs["predicted_rgb"] == "B×3×64×64"
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    described = json.loads(properties["configuration"])
    assert [modality["name"] for modality in described["modalities"]] == ["rgb", "depth", "force", "action"]


def test_a_graph_that_does_not_agree_leaves_the_old_file(tmp_path, saved, monkeypatch):
    (tmp_path / "model.onnx").write_text("before")
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(BackendError, match=r"model.onnx: expected the graph to agree with eager to 0, found \d"):
        onnx_export.export_onnx(saved, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "before"


def test_the_command_writes_the_file_and_names_its_inputs(tmp_path, saved):
    arguments = ("export", tmp_path / "model.safetensors", "--onnx", tmp_path / "model.onnx")
    finished = smvae(*arguments)
    assert finished.returncode == 0, finished.stderr
    assert "mask" in finished.stdout and "predicted_rgb" in finished.stdout and finished.stderr == ""
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_the_command_names_a_missing_package_and_its_extra(tmp_path, saved, package):
    before = f"sys.modules['{package}'] = None"
    finished = smvae("export", tmp_path / "model.safetensors", "--onnx", tmp_path / "model.onnx", before=before)
    assert finished.returncode == 2
    expected = f"error: onnx: the package '{package}' is not installed: pip install 'smvae_ros[onnx]'\n"
    assert finished.stderr == expected
    assert not list(tmp_path.glob("*onnx*"))


def test_the_command_names_a_place_that_cannot_be_written(tmp_path, saved):
    finished = smvae("export", tmp_path / "model.safetensors", "--onnx", tmp_path / "model.safetensors" / "x.onnx")
    assert finished.returncode == 2
    assert "x.onnx: cannot be written" in finished.stderr and "Traceback" not in finished.stderr
