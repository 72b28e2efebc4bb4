"""A bag through synchroniser and engine: the results, that they are the same twice, and what bad input gets."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smvae_core.data.vision_touch import find_trajectories
from smvae_core.engine import Engine
from smvae_core.errors import ConfigurationError
from smvae_core.evaluation import all_subsets
from smvae_core.modality import Modality
from smvae_ros.bags import BagError
from smvae_ros.bags_from_logs import STEP_NS
from smvae_ros.cli import main
from smvae_ros.replay import ReplayError, replay
from smvae_ros.replay_pictures import MOMENTS, Moment, Moments
from smvae_ros.replay_summary import ReplaySummary, Timing
from smvae_ros.replay_table import table_schema
from smvae_ros.settings import FusionSettings, default_settings

from .command import smvae

STEPS = 21
NAMES = ("rgb", "depth", "force", "action")
RESULTS = ["pictures.npz", "predictions.png", "sets.parquet", "summary.json", "timing.json"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def results(bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "results"
    replay(bag, checkpoint, out, default_settings, "cpu")
    return out


def test_the_same_bag_gives_the_same_bytes_on_any_number_of_threads(
    results: Path, bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    replay(bag, checkpoint, tmp_path, default_settings, "cpu", threads=3)
    ours, theirs = files(tmp_path), files(results)
    assert list(ours) == RESULTS
    del ours["timing.json"], theirs["timing.json"]
    assert ours == theirs


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
    assert all(row.samples == STEPS and set(row.mse) == set(row.share) == set(NAMES) for row in evaluation.subsets)


def logged(logs: Path, engine: Engine) -> list[dict[str, np.ndarray]]:
    """The sets of a log without a bag or a synchroniser: step t with command t + 1, depth to the millimetre."""
    raw = find_trajectories(logs)[0].read([modality.source for modality in engine.modalities])
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
            assert row.share[name] == pytest.approx(np.mean(squared) / trivial, rel=1e-4)
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
        np.testing.assert_allclose(pictures[f"seen_{name}"], seen, atol=1e-5)
        fusion = engine.infer({n: sets[5][n] for n in ("force", "action")}, [name])
        predicted = pictures[f"predicted_{name}_from_without_vision"]
        assert predicted.dtype == dtype and predicted.shape == (STEPS, *shape)
        expected = modality.to_physical(fusion.predictions[name])
        np.testing.assert_allclose(predicted[5], expected, atol=1.0 if name == "rgb" else 1e-3)
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


def silent(*topics: str, during: range) -> Callable[..., Iterator[tuple[int, bytes]]]:
    start_ns = []

    def change(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        start_ns.append(log_ns)
        if topic not in topics or (log_ns - start_ns[0]) // STEP_NS not in during:
            yield log_ns, content

    return change


def test_sets_without_a_dropped_sensor_are_counted_by_what_they_have(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    dropped = edited(bag, silent("/depth/image", "/wrench", during=range(5, 10)))
    summary = replay(dropped, checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.sets_by_subset == {"rgb+depth+force+action": 16, "rgb+action": 5}
    assert summary.evaluation.of(*NAMES).samples == 16
    assert summary.evaluation.of("rgb", "action").samples == 21
    table = pq.read_table(tmp_path / "out" / "sets.parquet").to_pydict()
    assert np.flatnonzero(~np.array(table["present_depth"])).tolist() == [5, 6, 7, 8, 9]
    for name in ("age_depth", "error_depth_from_set", "error_rgb_from_depth", "error_depth_from_rgb", "seen_force"):
        assert [row for row, value in enumerate(table[name]) if value is None] == [5, 6, 7, 8, 9], name
    assert None not in table["error_rgb_from_set"] + table["predicted_force"] + table["predicted_force_without"]
    assert table["attention_depth"][5:10] == [0.0] * 5


def test_ticks_take_over_while_the_reference_is_silent(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    dropped = edited(bag, silent("/rgb/image", during=range(2, 18)))
    summary = replay(dropped, checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.sets_by_reason["tick"] >= 5
    assert summary.sets_by_subset["depth+force+action"] == summary.sets_by_reason["tick"]


def test_messages_that_cannot_be_used_are_counted_with_the_reason(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def break_encoding(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        broken = content.replace(b"rgb8", b"rgbX") if topic == "/rgb/image" and number in (3, 4) else content
        yield log_ns, broken

    summary = replay(edited(bag, break_encoding), checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS - 2, "depth+force+action": 2}
    assert summary.streams["rgb"].rejected == 2
    assert "found encoding 'rgbX'" in summary.streams["rgb"].rejected_because


def test_a_bag_without_a_whole_set_is_judged_by_what_its_sets_hold(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def never(modalities: Sequence[Modality]) -> FusionSettings:
        return default_settings(modalities).changed({"streams": {"action": {"enabled": False}}})

    summary = replay(bag, checkpoint, tmp_path / "out", never, "cpu")
    assert summary.sets_by_subset == {"rgb+depth+force": STEPS}
    assert summary.evaluation.of("rgb", "action").samples == 0
    assert summary.evaluation.of("rgb", "action").mse == {}
    assert summary.evaluation.of("rgb").mse.keys() == set(NAMES), "the bag has the truth of what no set holds"
    assert summary.streams["action"].dropped == {"disabled": STEPS - 1}


def test_a_bag_of_another_clock_says_so(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def later(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns + 1_000_000_000_000, content

    def earlier(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns - 1_000_000_000_000, content

    summary = replay(edited(bag, later, "later"), checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS}
    assert summary.streams["rgb"].lag_s == (1000.0, 1000.0)
    assert "/rgb/image: stamps are 1000.0 s off the bag's clock, as if of another one" in summary.warnings
    with pytest.raises(BagError, match="expected sets, found none: rgb: 21 received, 21 dropped as future, depth"):
        replay(edited(bag, earlier, "earlier"), checkpoint, tmp_path / "none", default_settings, "cpu")
    assert not (tmp_path / "none").exists()


def test_messages_without_a_stamp_get_their_log_time(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def unstamped(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns, content[:4] + bytes(8) + content[12:]

    summary = replay(edited(bag, unstamped), checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS}
    assert summary.streams["rgb"].lag_s is None
    assert "/rgb/image: 21 of 21 messages without a stamp; their log time took its place" in summary.warnings


def test_a_bag_that_was_recorded_while_time_jumped_back_has_two_epochs(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def twice(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns, content
        yield log_ns + 2_000_000_000, content

    summary = replay(edited(bag, twice), checkpoint, tmp_path / "out", default_settings, "cpu")
    assert summary.resets == 1 and "time jumped back 1 times" in summary.warnings
    table = pq.read_table(tmp_path / "out" / "sets.parquet").to_pydict()
    assert sorted(set(table["epoch"])) == [0, 1]
    assert table["stamp_ns"][:STEPS] == table["stamp_ns"][-STEPS:]
    assert None not in table["error_rgb_from_set"]


def test_results_do_not_go_where_a_file_is(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReplayError, match="out: expected a folder or nothing, found a file"):
        replay(bag, checkpoint, tmp_path / "out", default_settings, "cpu")
    assert (tmp_path / "out").read_text() == "mine"


def test_the_command_replays_with_other_topics_and_settings(
    bag: Path, checkpoint: Path, results: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / "fusion.yaml"
    parameters.write_text(
        "/**:\n  ros__parameters:\n    device: cpu\n    max_wait: 0.02\n"
        "    streams:\n      depth: {topic: somewhere, tolerance: 0.01}\n"
    )
    arguments = ["replay", bag, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--device", "cpu"]
    done = smvae(*arguments, "--params-file", parameters, "--topic", "depth:=/depth/image")
    assert (done.returncode, done.stderr) == (0, "")
    assert "predicted from" in done.stdout and "21 sets of rgb+depth+force+action" in done.stdout
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert (settings["max_wait"], settings["streams"]["depth"]["topic"]) == (0.02, "/depth/image")
    assert settings["streams"]["depth"]["tolerance"] == 0.01
    ours, theirs = (pq.read_table(folder / "sets.parquet") for folder in (tmp_path / "out", results))
    # A shorter wait lets the last set out earlier, which still is the same.
    assert ours.drop_columns(["log_ns", "wait_ns"]).equals(theirs.drop_columns(["log_ns", "wait_ns"]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--topic", "rgb:=/nowhere"], "expected messages on /nowhere, found /action"),
        (["--topic", "rgb=/nowhere"], "--topic: expected MODALITY:=TOPIC, found 'rgb=/nowhere'"),
        (["--topic", "sonar:=/sonar"], "expected settings of rgb, depth, force, action, found sonar"),
        (["--checkpoint", "DAMAGED"], "expected a safetensors file, found a damaged or foreign one"),
        (["--params-file", "DAMAGED"], "expected the ros__parameters of one node, found those of 0"),
    ],
)
def test_the_command_refuses_bad_input_in_one_sentence(
    change: list[str],
    sentence: str,
    bag: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "DAMAGED").write_text("hello")
    change = [str(tmp_path / "DAMAGED") if part == "DAMAGED" else part for part in change]
    arguments = ["smvae", "replay", str(bag), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"), *change]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert sentence in " ".join(said.split())
    assert said.count("error:") == 1
    assert not (tmp_path / "out").exists()


def test_a_bag_that_was_cut_off_is_replayed_to_the_cut(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], results: Path, tmp_path: Path
) -> None:
    copy = edited(bag, lambda topic, number, log_ns, content: iter([(log_ns, content)]))
    whole = (copy / "edited.db3").read_bytes()
    (copy / "edited.db3").write_bytes(whole[: len(whole) // 2])
    done = smvae("replay", copy, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: edited.db3: is cut off or damaged after" in done.stdout
    extent = ReplaySummary.model_validate_json((tmp_path / "out" / "summary.json").read_bytes()).extent
    assert not extent.whole and extent.recorded_seconds == pytest.approx(1.049)
    assert 0.3 < extent.seconds < 0.7
    ours, theirs = (pq.read_table(folder / "sets.parquet").to_pydict() for folder in (tmp_path / "out", results))
    rows = len(ours["stamp_ns"]) - 1
    assert rows > 5 and ours["mean"][:rows] == theirs["mean"][:rows]


def test_settings_that_cannot_work_are_refused(checkpoint: Path) -> None:
    settings = default_settings(Engine.load(checkpoint, "cpu").modalities)
    for changes, sentence in (
        ({"max_weight": 1.0}, "unknown key 'max_weight'"),
        ({"reference": "sonar"}, "the reference must be one of rgb, depth, force, action, found sonar"),
        ({"streams": {"rgb": {"tolerence": 1.0}}}, "unknown key 'streams.rgb.tolerence'"),
        ({"streams": {"rgb": {"timeout": 0.0}}}, "'streams.rgb.timeout'"),
        ({"streams": {"force": {"least": 33}}}, "force: least must be at most the window of 32, found 33"),
        ({"streams": ["rgb"]}, "streams: expected a block for each modality"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            settings.changed(changes)
        assert sentence in str(refused.value)
