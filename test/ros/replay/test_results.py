"""What a replay leaves: summary, table, pictures, timing, each against the log that the bag was made of."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smvae_core.data.formats.vision_touch import find_trajectories, read_trajectory
from smvae_core.inference.engine import Engine
from smvae_core.modality import Modality
from smvae_core.preprocessing import Grey
from smvae_core.subsets import all_subsets
from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.pictures import MOMENTS, Moment, Moments
from smvae_ros.replay.run import replay
from smvae_ros.replay.summary import ReplaySummary, Timing
from smvae_ros.replay.table import table_schema
from smvae_ros.report.write import write_report
from smvae_ros.settings import default_settings

from ..senses import camera, tiny_checkpoint

STEPS = 21
NAMES = ("rgb", "depth", "force", "action")


def test_the_summary_tells_what_was_computed_from_what(results: Path, bag: Path, checkpoint: Path) -> None:
    summary = ReplaySummary.model_validate_json((results / "summary.json").read_bytes())
    assert (summary.bag, summary.checkpoint, summary.device) == ("peg", "tiny.safetensors", "cpu")
    assert {len(summary.bag_sha256), len(summary.checkpoint_sha256)} == {64}
    assert summary.settings == default_settings(Engine.load(checkpoint, "cpu").modalities)
    assert str(bag.parent) not in (results / "summary.json").read_text(), "no path of this machine"
    assert (summary.sets, summary.sets_by_subset, summary.resets) == (STEPS, {"rgb+depth+force+action": STEPS}, 0)
    assert summary.streams["force"].received == 50 * STEPS
    assert summary.streams["force"].used == 32 * STEPS
    assert summary.streams["action"].used == STEPS - 1, (
        "the last step has no command of its own; the one before it holds"
    )


def test_there_are_errors_for_all_15_subsets(results: Path, logs: Path) -> None:
    evaluation = ReplaySummary.model_validate_json((results / "summary.json").read_bytes()).evaluation
    assert [row.subset for row in evaluation.subsets] == all_subsets(NAMES)
    assert len(evaluation.subsets) == 15
    assert all(row.samples == STEPS and set(row.mse) == set(row.nmse) == set(NAMES) for row in evaluation.subsets)


def logged(logs: Path, engine: Engine) -> list[dict[str, np.ndarray]]:
    """The sets of a log without a bag or a synchroniser: step t with command t + 1, depth to the millimetre."""
    raw = read_trajectory(find_trajectories(logs)[0], [modality.source for modality in engine.modalities])
    raw["depth_data"] = np.rint(np.nan_to_num(raw["depth_data"]) * 1000).astype(np.float32) * np.float32(0.001)
    raw["ee_forces_continuous"] = raw["ee_forces_continuous"].astype(np.float32)
    raw["action"] = np.concatenate([raw["action"][1:], raw["action"][-1:]]).astype(np.float32)
    return [{m.name: m.to_model(raw[m.source][step]) for m in engine.modalities} for step in range(STEPS)]


def test_latents_and_errors_are_those_of_the_log_itself(results: Path, logs: Path, checkpoint: Path) -> None:
    engine = Engine.load(checkpoint, "cpu")
    sets = logged(logs, engine)
    table = pq.read_table(results / "sets.parquet").to_pydict()
    assert all(all(table[f"present_{name}"]) for name in NAMES)
    assert np.diff(table["stamp_ns"]).tolist() == [STEP_NS] * (STEPS - 1)
    fusions = [engine.infer(arrays) for arrays in sets]
    np.testing.assert_allclose(table["mean"], [fusion.mean for fusion in fusions], atol=1e-5)
    np.testing.assert_allclose(table["log_variance"], [fusion.log_variance for fusion in fusions], atol=1e-5)
    for name in NAMES:
        attention = [fusion.attention[name] for fusion in fusions]
        np.testing.assert_allclose(table[f"attention_{name}"], attention, atol=1e-5)

    evaluation = ReplaySummary.model_validate_json((results / "summary.json").read_bytes()).evaluation
    for subset in (("rgb",), ("depth", "force"), NAMES):
        row = evaluation.of(*subset)
        predictions = [
            engine.infer({name: arrays[name] for name in subset}, predict=NAMES).predictions for arrays in sets
        ]
        for name in NAMES:
            squared = [np.mean((x[name] - arrays[name]) ** 2) for x, arrays in zip(predictions, sets)]
            trivial = np.mean([np.mean((arrays[name] - 0.25) ** 2) for arrays in sets])
            np.testing.assert_allclose(table[f"error_{name}_from_{'+'.join(subset)}"], squared, rtol=1e-4)
            assert row.mse[name] == pytest.approx(np.mean(squared), rel=1e-4)
            assert row.nmse[name] == pytest.approx(np.mean(squared) / trivial, rel=1e-4)
    assert table["error_force_from_set"] == table["error_force_from_rgb+depth+force+action"]


def test_the_table_has_what_was_seen_and_predicted_in_physical_units(
    results: Path, logs: Path, checkpoint: Path
) -> None:
    engine = Engine.load(checkpoint, "cpu")
    sets = logged(logs, engine)
    file = pq.ParquetFile(results / "sets.parquet")
    assert file.schema_arrow.metadata[b"modalities"] == b"rgb,depth,force,action"
    assert file.schema_arrow.equals(table_schema(engine.modalities, engine.latent))
    table = file.read().to_pydict()
    force, action = engine.modality("force"), engine.modality("action")
    np.testing.assert_allclose(table["seen_force"], [force.to_physical(x["force"])[-1] for x in sets], rtol=1e-5)
    np.testing.assert_allclose(table["seen_action"], [action.to_physical(x["action"]) for x in sets], rtol=1e-5)
    for column, left_out in (("predicted_force", ()), ("predicted_force_without", ("force",))):
        held = [{name: x for name, x in arrays.items() if name not in left_out} for arrays in sets]
        expected = [force.to_physical(engine.infer(x, ["force"]).predictions["force"])[-1] for x in held]
        np.testing.assert_allclose(table[column], expected, atol=1e-3)
    assert "seen_rgb" not in table
    assert set(table["age_rgb"]) == {0.0}
    assert table["age_action"] == pytest.approx([0.0] * (STEPS - 1) + [0.05])
    assert table["reason"] == ["complete"] * (STEPS - 1) + ["deadline"], "the last step waits for its command"


def test_pictures_are_spread_over_the_bag_with_their_uncertainty(results: Path, logs: Path, checkpoint: Path) -> None:
    engine = Engine.load(checkpoint, "cpu")
    sets = logged(logs, engine)
    with np.load(results / "pictures.npz") as content:
        pictures = dict(content)
    assert pictures["row"].tolist() == list(range(STEPS))
    assert np.diff(pictures["seconds"])[:-1] == pytest.approx(STEP_NS / 1e9)
    assert pictures["shown"].tolist() == ["all", "without_rgb", "without_depth", "without_vision"]
    assert set(pictures["used_without_vision"]) == {"force+action"}
    for name, dtype, shape in (("rgb", np.uint8, (64, 64, 3)), ("depth", np.float32, (64, 64))):
        modality = engine.modality(name)
        assert pictures[f"recorded_{name}"].all()
        seen = np.stack([modality.to_physical(arrays[name]) for arrays in sets])
        np.testing.assert_allclose(pictures[f"seen_{name}"], seen, atol=1e-3)
        fusion = engine.infer({n: sets[5][n] for n in ("force", "action")}, [name])
        predicted = pictures[f"predicted_{name}_from_without_vision"]
        assert predicted.dtype == dtype and predicted.shape == (STEPS, *shape)
        expected = modality.to_physical(fusion.predictions[name]).astype(float)
        np.testing.assert_allclose(predicted[5].astype(float), expected, atol=1.0 if name == "rgb" else 1e-3)
        uncertainty = pictures[f"uncertainty_{name}_from_without_vision"]
        assert uncertainty.shape == (STEPS, 64, 64) and uncertainty.dtype == np.float32
        assert (uncertainty >= 0.0).all() and uncertainty.max() > 0.0


def test_moments_stay_few_and_even_however_long_the_bag() -> None:
    moments = Moments()
    for row in range(5000):
        moments.see(Moment(row, row / 20, {}, {}))
    rows = [moment.row for moment in moments.chosen()]
    assert len(rows) == MOMENTS and rows[0] == 0 and rows[-1] > 4600
    assert max(np.diff(rows)) <= 2 * min(np.diff(rows))


def test_timing_is_told_apart(results: Path) -> None:
    timing = Timing.model_validate_json((results / "timing.json").read_bytes())
    assert timing.bag_seconds_per_wall_second == pytest.approx(1.049 / timing.wall_seconds)
    assert 0.0 < timing.inference_median_s <= timing.inference_p99_s
    assert timing.inference_sets == STEPS


def test_the_sheet_has_a_row_for_what_was_seen_and_for_each_prediction(results: Path) -> None:
    with Image.open(results / "predictions.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
        assert "Software" not in sheet.info
    # Ten rows of eight pictures, higher than wide cells, and something in it.
    assert pixels.shape[0] > 1000 and pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_grey_pictures_come_from_a_colour_camera(bag: Path, tmp_path: Path) -> None:
    grey = Modality(name="grey", source="image.grey", preprocessing=Grey(), network="image", likelihood="bernoulli")
    checkpoint = tiny_checkpoint(tmp_path / "grey.safetensors", (camera("dirty"), grey))

    streams = {name: {"topic": "rgb/image"} for name in ("dirty", "grey")}
    job = ReplayJob(checkpoint, ({"reference": "dirty", "streams": streams},), "cpu", write_bag=True)
    summary = replay(bag, tmp_path / "results", job)
    assert summary.sets_by_subset == {"dirty+grey": STEPS}
    content = np.load(tmp_path / "results" / "pictures.npz")
    seen = content["seen_grey"]
    assert seen.dtype == np.uint8 and seen.shape[1:] == (64, 64, 3)
    expected = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in content["seen_dirty"]]
    np.testing.assert_allclose(seen[..., 0], expected, atol=3)
    assert write_report(tmp_path / "results").exists()
