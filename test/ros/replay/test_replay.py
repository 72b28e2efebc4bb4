"""A bag through synchroniser and engine: the results, that they are the same twice, and what bad input gets."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from smvae_core.errors import ConfigurationError
from smvae_core.inference.engine import Engine
from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.bags.reading import BagError
from smvae_ros.cli import main
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.results_folder import ReplayError
from smvae_ros.replay.run import replay
from smvae_ros.replay.summary import ReplaySummary
from smvae_ros.settings import default_settings

from ..command import smvae

STEPS = 21
NAMES = ("rgb", "depth", "force", "action")
RESULTS = ["pictures.npz", "predictions.png", "sets.parquet", "summary.json", "timing.json"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_bag_gives_the_same_bytes_on_any_number_of_threads(
    results: Path, bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    replay(bag, tmp_path, ReplayJob(checkpoint, device="cpu"), threads=3)
    ours, theirs = files(tmp_path), files(results)
    assert list(ours) == RESULTS
    del ours["timing.json"], theirs["timing.json"]
    assert ours == theirs


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
    summary = replay(dropped, tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
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
    summary = replay(dropped, tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert summary.sets_by_reason["tick"] >= 5
    assert summary.sets_by_subset["depth+force+action"] == summary.sets_by_reason["tick"]


def test_messages_that_cannot_be_used_are_counted_with_the_reason(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def break_encoding(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        broken = content.replace(b"rgb8", b"rgbX") if topic == "/rgb/image" and number in (3, 4) else content
        yield log_ns, broken

    summary = replay(edited(bag, break_encoding), tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS - 2, "depth+force+action": 2}
    assert summary.streams["rgb"].rejected == 2
    assert "found 'rgbX'" in summary.streams["rgb"].rejected_because
    assert f"/rgb/image: 2 sets had to do without rgb: {summary.streams['rgb'].rejected_because}" in summary.warnings


def test_a_bag_without_a_whole_set_is_judged_by_what_its_sets_hold(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    never = ReplayJob(checkpoint, ({"streams": {"action": {"enabled": False}}},), "cpu")
    summary = replay(bag, tmp_path / "out", never)
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

    summary = replay(edited(bag, later, "later"), tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS}
    assert summary.streams["rgb"].lag_s == (1000.0, 1000.0)
    assert "/rgb/image: stamps are 1000.0 s off the bag's clock, as if of another one" in summary.warnings
    with pytest.raises(BagError, match="expected sets, found none: rgb: 21 received, 21 dropped as future, depth"):
        replay(edited(bag, earlier, "earlier"), tmp_path / "none", ReplayJob(checkpoint, device="cpu"))
    assert not (tmp_path / "none").exists()


def test_lost_messages_and_a_long_silence_are_told(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    begin_ns: list[int] = []

    def frozen(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        begin_ns.append(log_ns)
        if topic == "/action":
            content = content[:4] + struct.pack("<iI", *divmod(begin_ns[0], 1_000_000_000)) + content[12:]
        if topic == "/depth/image" and number > 10:
            seconds, nanoseconds = struct.unpack_from("<iI", content, 4)
            content = content[:4] + struct.pack("<iI", seconds + 120, nanoseconds) + content[12:]
            log_ns += 120_000_000_000
        yield log_ns, content

    summary = replay(edited(bag, frozen), tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert f"/action: {STEPS - 2} of {STEPS - 1} messages were lost: {STEPS - 2} × duplicate" in summary.warnings
    assert "/depth/image: nothing came for 120 s" in summary.warnings


def test_messages_without_a_stamp_get_their_log_time(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def unstamped(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns, content[:4] + bytes(8) + content[12:]

    summary = replay(edited(bag, unstamped), tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS}
    assert summary.streams["rgb"].lag_s is None
    assert "/rgb/image: 21 of 21 messages without a stamp; their receive time took its place" in summary.warnings


def test_a_bag_that_was_recorded_while_time_jumped_back_has_two_epochs(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def twice(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        yield log_ns, content
        yield log_ns + 2_000_000_000, content

    summary = replay(edited(bag, twice), tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
    assert summary.resets == 1 and "time jumped back once" in summary.warnings
    table = pq.read_table(tmp_path / "out" / "sets.parquet").to_pydict()
    assert sorted(set(table["epoch"])) == [0, 1]
    assert table["stamp_ns"][:STEPS] == table["stamp_ns"][-STEPS:]
    assert None not in table["error_rgb_from_set"]


def test_results_do_not_go_into_a_bag(bag: Path, checkpoint: Path) -> None:
    before = files(bag)
    with pytest.raises(ReplayError, match="peg: expected a folder for the results, found a bag"):
        replay(bag, bag, ReplayJob(checkpoint, device="cpu"))
    assert files(bag) == before


def test_results_do_not_go_where_a_file_is(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReplayError, match="out: expected a folder or nothing, found a file"):
        replay(bag, tmp_path / "out", ReplayJob(checkpoint, device="cpu"))
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
    arguments = ("replay", copy, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--device", "cpu")
    done = smvae(*arguments, run=subprocess.run)
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: edited.db3: is cut off or damaged after" in done.stdout
    extent = ReplaySummary.model_validate_json((tmp_path / "out" / "summary.json").read_bytes()).extent
    assert not extent.whole and extent.recorded_seconds == pytest.approx(1.049)
    assert 0.3 < extent.seconds < 0.7
    ours, theirs = (pq.read_table(folder / "sets.parquet").to_pydict() for folder in (tmp_path / "out", results))
    rows = len(ours["stamp_ns"]) - 1
    assert rows > 5 and ours["stamp_ns"][:rows] == theirs["stamp_ns"][:rows]
    # The last bits depend on how many sets are computed together.
    np.testing.assert_allclose(ours["mean"][:rows], theirs["mean"][:rows], rtol=0.0, atol=1e-6)


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
