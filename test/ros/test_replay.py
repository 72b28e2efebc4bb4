"""A bag through synchroniser and engine: the results, that they are the same twice, and what bad input gets."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
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
from smvae_ros.replay import ReplayError, ReplaySummary, replay
from smvae_ros.settings import FusionSettings, default_settings

STEPS = 21
NAMES = ("rgb", "depth", "force", "action")
RESULTS = ["latents.npz", "predictions.png", "summary.json"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def results(bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "results"
    replay(bag, checkpoint, out, default_settings, "cpu")
    return out


def test_the_same_bag_gives_the_same_bytes_twice(results: Path, bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    replay(bag, checkpoint, tmp_path, default_settings, "cpu")
    assert files(tmp_path) == files(results)
    assert list(files(results)) == RESULTS
    with zipfile.ZipFile(results / "latents.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


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
    latents = np.load(results / "latents.npz")
    assert tuple(latents["modalities"]) == NAMES
    assert latents["present"].all() and latents["present"].shape == (STEPS, 4)
    assert np.diff(latents["stamp_ns"]).tolist() == [STEP_NS] * (STEPS - 1)
    fusions = [engine.infer(arrays) for arrays in sets]
    np.testing.assert_allclose(latents["mean"], [fusion.mean for fusion in fusions], atol=1e-5)
    np.testing.assert_allclose(latents["log_variance"], [fusion.log_variance for fusion in fusions], atol=1e-5)
    np.testing.assert_allclose(latents["attention"].sum(axis=1), 1.0, atol=1e-5)

    evaluation = ReplaySummary.model_validate_json((results / "summary.json").read_bytes()).evaluation
    for subset in (("rgb",), ("depth", "force"), NAMES):
        squared = {name: [] for name in NAMES}
        for arrays in sets:
            fusion = engine.infer({name: arrays[name] for name in subset}, predict=NAMES)
            for name in NAMES:
                squared[name].append(np.mean((fusion.predictions[name] - arrays[name]) ** 2))
        row = evaluation.of(*subset)
        for name in NAMES:
            trivial = np.mean([np.mean((arrays[name] - 0.25) ** 2) for arrays in sets])
            assert row.mse[name] == pytest.approx(np.mean(squared[name]), rel=1e-4)
            assert row.share[name] == pytest.approx(np.mean(squared[name]) / trivial, rel=1e-4)


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
    assert summary.evaluation.samples == 16
    present = np.load(tmp_path / "out" / "latents.npz")["present"]
    assert np.flatnonzero(~present[:, 1]).tolist() == [5, 6, 7, 8, 9]


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


def test_a_bag_without_a_whole_set_is_refused_and_nothing_is_written(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    dropped = edited(bag, silent("/action", during=range(1, 100)))
    with pytest.raises(
        BagError, match=r"expected sets of rgb \+ depth \+ force \+ action to evaluate, found \d+ of rgb\+depth\+force"
    ):

        def strict(modalities: Sequence[Modality]) -> FusionSettings:
            return default_settings(modalities).changed(
                {"streams": {"action": {"hold": 0.0, "offset": 10.0}}, "future": 60.0}
            )

        replay(dropped, checkpoint, tmp_path / "out", strict, "cpu")
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_where_a_file_is(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReplayError, match="out: expected a folder or nothing, found a file"):
        replay(bag, checkpoint, tmp_path / "out", default_settings, "cpu")
    assert (tmp_path / "out").read_text() == "mine"


def smvae(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from smvae_ros.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


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
    assert (tmp_path / "out" / "latents.npz").read_bytes() == (results / "latents.npz").read_bytes()


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


def test_a_truncated_bag_ends_the_command_without_a_traceback(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bag, tmp_path / "peg")
    whole = (copy / "peg.mcap").read_bytes()
    (copy / "peg.mcap").write_bytes(whole[: len(whole) // 2])
    done = smvae("replay", copy, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "peg: expected a whole rosbag2" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


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
