"""What-if: what the command line's words mean, what they do to a replay, and what nonsense gets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.modality import vision_touch_modalities
from smvae_ros.bags.reading import BagError
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.summary import Fault, Kind, ReplaySummary, WhatIf
from smvae_ros.replay.what_if import WhatIfError, dropped_altogether, parse_what_if
from smvae_ros.settings import default_settings
from smvae_ros.synchronizer.set_synchronizer import Sample

STEPS = 21
MODALITIES = vision_touch_modalities()
SETTINGS = default_settings(MODALITIES)


def what_if(**words: str) -> WhatIf:
    return parse_what_if({cast(Kind, kind): [word] for kind, word in words.items()}, SETTINGS, MODALITIES)


def test_modalities_are_named_by_modality_or_topic() -> None:
    words: dict[Kind, list[str]] = {
        "drop": ["rgb@10:20,wrench", "/depth/image@5:"],
        "noise": ["force=0.5"],
        "delay": ["rgb=0.08,action=0.1@2:3"],
        "scale": ["depth=1.03@1:2,depth=0.9@2:"],
        "freeze": ["/rgb/image@:3"],
        "swap": ["depth=bags/a,b@c@1:2"],
    }
    parsed = parse_what_if(words, SETTINGS, MODALITIES)
    assert parsed.faults == (
        Fault(kind="drop", modality="rgb", start=10.0, end=20.0),
        Fault(kind="drop", modality="force"),
        Fault(kind="drop", modality="depth", start=5.0),
        Fault(kind="noise", modality="force", amount=0.5),
        Fault(kind="delay", modality="rgb", amount=0.08),
        Fault(kind="delay", modality="action", amount=0.1, start=2.0, end=3.0),
        Fault(kind="scale", modality="depth", amount=1.03, start=1.0, end=2.0),
        Fault(kind="scale", modality="depth", amount=0.9, start=2.0),
        Fault(kind="freeze", modality="rgb", end=3.0),
        Fault(kind="swap", modality="depth", other=Path("bags/a,b@c"), start=1.0, end=2.0),
    )
    assert dropped_altogether(parsed) == {"force"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"drop": "sonar"}, "--drop: expected a modality among rgb, depth, .*, /rgb/image, .*, found 'sonar'"),
        ({"drop": "rgb@20:10"}, "--drop: expected MODALITY@START:END in seconds .*, found 'rgb@20:10'"),
        ({"drop": "rgb@5"}, "--drop: expected MODALITY@START:END"),
        ({"drop": "rgb@a:b"}, "--drop: expected MODALITY@START:END"),
        ({"drop": "rgb@nan:3"}, "--drop: expected MODALITY@START:END"),
        ({"drop": "rgb=3"}, "--drop: expected MODALITY, found 'rgb=3'"),
        ({"drop": ""}, "--drop: expected a modality among"),
        ({"noise": "depth"}, "--noise: expected MODALITY=STANDARD DEVIATION, between 0 and 100, found 'depth'"),
        ({"noise": "depth=-1"}, "--noise: expected MODALITY=STANDARD DEVIATION"),
        ({"noise": "depth=1@3:2"}, "--noise: expected MODALITY=STANDARD DEVIATION@START:END in seconds"),
        ({"delay": "rgb=nan"}, "--delay: expected MODALITY=SECONDS, between 0 and 60, found 'rgb=nan'"),
        ({"delay": "rgb=soon"}, "--delay: expected MODALITY=SECONDS, between 0 and 60, found 'rgb=soon'"),
        ({"delay": "rgb=0.1,/rgb/image=0.2"}, "--delay: expected rgb once at a time, found it again in '/rgb/image="),
        ({"scale": "depth=2@1:5,depth=3@4:6"}, "--scale: expected depth once at a time, found it again in 'depth=3@4"),
        ({"shift": "rgb=2.5"}, "--shift: expected MODALITY=PIXELS, whole, between -1000 and 1000, found 'rgb=2.5'"),
        ({"cover": "rgb=25"}, "--cover: expected MODALITY=PART, between 0 and 1, found 'rgb=25'"),
        ({"cover": "force=0.5"}, "--cover: expected an image, found force, which is 6×32 numbers"),
        ({"dim": "depth=0.5"}, "--dim: expected a camera, found depth, which has no brightness"),
        ({"freeze": "rgb=3"}, "--freeze: expected MODALITY, found 'rgb=3'"),
        ({"zero": "sonar"}, "--zero: expected a modality among"),
        ({"swap": "depth"}, "--swap: expected MODALITY=BAG, found 'depth'"),
        ({"swap": "depth="}, "--swap: expected MODALITY=BAG, found 'depth='"),
    ],
)
def test_nonsense_is_told_in_one_sentence(words: dict[str, str], sentence: str) -> None:
    with pytest.raises(WhatIfError, match=sentence):
        what_if(**words)


@given(
    start=st.integers(0, 100),
    length=st.integers(1, 100),
    delay=st.floats(0.0, 60.0),
    at=st.integers(0, 300_000_000_000),
)
def test_a_message_is_dropped_in_the_interval_and_late_outside(start: int, length: int, delay: float, at: int) -> None:
    words = what_if(drop=f"rgb@{start}:{start + length}", delay=f"rgb={delay!r}")
    faults = Faults(words, MODALITIES)
    begin_ns = 1_600_000_000_000_000_000
    arrival_ns = faults.arrival("rgb", begin_ns + at, begin_ns)
    if start * 1_000_000_000 <= at < (start + length) * 1_000_000_000:
        assert arrival_ns is None
    else:
        assert arrival_ns == begin_ns + at + round(delay * 1e9) and faults.longest_delay_ns == round(delay * 1e9)
    assert faults.arrival("depth", begin_ns + at, begin_ns) == begin_ns + at


def test_noise_is_the_same_for_the_same_sample() -> None:
    faults = Faults(what_if(noise="depth=0.1,action=0.5@0:1"), MODALITIES)
    depth = np.full((1, 64, 64), 0.5, np.float32)
    noisy = faults.disturbed("depth", depth, [Sample(7, None)], 0)
    assert np.array_equal(noisy, faults.disturbed("depth", depth, [Sample(7, None)], 0))
    assert not np.array_equal(noisy, faults.disturbed("depth", depth, [Sample(8, None)], 0))
    assert faults.disturbed("rgb", depth, [Sample(7, None)], 0) is depth
    action = np.zeros(4, np.float32)
    assert faults.disturbed("action", action, [Sample(7, None)], 999_999_999).any()
    assert not faults.disturbed("action", action, [Sample(7, None)], 1_000_000_000).any()


def test_a_frozen_sensor_repeats_the_last_sample_before_and_recovers() -> None:
    faults = Faults(what_if(freeze="force@1:2", bias="force=2@0.5:1.5"), MODALITIES)
    windows = [np.full((6, 32), 0.01 * n, np.float32) for n in range(30)]
    for window in windows:
        window[:, -1] += 0.001
    given_out = [faults.disturbed("force", x, [Sample(0, None)], 100_000_000 * n) for n, x in enumerate(windows)]
    assert all(np.array_equal(given_out[n], windows[n]) for n in (*range(5), *range(20, 30)))
    frozen = np.repeat(given_out[9][:, -1:], 32, axis=1)
    assert all(np.array_equal(x, frozen) for x in given_out[10:20]), "also the bias of the moment stays"
    assert not faults.without_effect()


@pytest.fixture(scope="module")
def clean(bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The table without faults."""
    out = tmp_path_factory.mktemp("clean")
    replay(bag, out, ReplayJob(checkpoint, device="cpu"))
    return pq.read_table(out / "sets.parquet").to_pydict()


@pytest.fixture
def under(bag: Path, checkpoint: Path, tmp_path: Path) -> Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]:
    """Replays under faults: summary and table."""

    def run(**words: str) -> tuple[ReplaySummary, dict[str, list[Any]]]:
        summary = replay(
            bag, tmp_path, ReplayJob(checkpoint, device="cpu", faults={cast(Kind, k): (w,) for k, w in words.items()})
        )
        return summary, pq.read_table(tmp_path / "sets.parquet").to_pydict()

    return run


def test_a_dropped_modality_is_judged_against_what_was_recorded(
    clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    summary, table = under(drop="wrench,depth@0.5:0.8")
    assert [fault.modality for fault in summary.what_if.faults] == ["force", "depth"]
    assert summary.sets_by_subset == {"rgb+depth+action": 15, "rgb+action": 6}
    assert table["seen_force"] == clean["seen_force"]
    assert table["error_force_from_rgb"] == pytest.approx(clean["error_force_from_rgb"], rel=1e-5)
    assert table["error_force_from_set"][0] == pytest.approx(clean["error_force_from_rgb+depth+action"][0], rel=1e-5)
    assert table["error_depth_from_set"][12] == pytest.approx(clean["error_depth_from_rgb+action"][12], rel=1e-5)
    assert set(table["error_rgb_from_force"]) == {None}
    streams = summary.streams
    assert (streams["force"].recorded, streams["force"].received) == (50 * STEPS, 0)
    assert (streams["depth"].recorded, streams["depth"].received) == (STEPS, STEPS - 6)
    assert summary.evaluation.of("force").samples == 0


def test_a_delayed_modality_misses_its_sets_and_is_judged_all_the_same(
    clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    # Longer than a set waits.
    summary, table = under(delay="depth=0.08")
    assert summary.sets_by_subset == {"rgb+force+action": STEPS}
    # Sets wait for it until it counts as dead; afterwards they are complete without it.
    assert set(summary.sets_by_reason) == {"deadline", "complete"}
    assert sum(summary.sets_by_reason.values()) == STEPS
    assert table["error_depth_from_set"] == pytest.approx(clean["error_depth_from_rgb+force+action"], rel=1e-5)
    # Shorter than that.
    summary, table = under(delay="depth=0.03")
    assert summary.sets_by_subset == {"rgb+depth+force+action": STEPS}
    assert min(table["wait_ns"]) >= 30_000_000
    assert table["mean"] == clean["mean"]


def test_a_noisy_modality_is_judged_against_the_clean_one(
    clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    summary, table = under(noise="action=2.0")
    assert table["seen_action"] == clean["seen_action"]
    assert table["error_rgb_from_depth"] == clean["error_rgb_from_depth"]
    assert table["mean"] != clean["mean"]
    changed = np.abs(np.array(table["error_rgb_from_action"]) - clean["error_rgb_from_action"])
    assert np.count_nonzero(changed) > STEPS // 2
    again, _ = under(noise="action=2.0")
    assert again == summary


def test_faults_together_change_what_arrives_and_not_the_truth(
    clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    summary, table = under(freeze="wrench@0.4:0.7", zero="action@0.5:", scale="depth=1.03@5:6", dim="rgb=0@:0.2")
    assert table["seen_force"] == clean["seen_force"] and table["seen_action"] == clean["seen_action"]
    seconds = (np.array(table["log_ns"]) - summary.extent.begin_ns) / 1e9
    same = [a == b for a, b in zip(table["mean"], clean["mean"])]
    assert same == [bool(0.2 <= at < 0.4) for at in seconds]
    # A black picture carries nothing, so it counts as absent.
    assert [not present for present in table["present_rgb"]] == [bool(at < 0.2) for at in seconds]
    assert "/depth/image: nothing to scale from 5 to 6 s, where it has no messages" in summary.warnings
    assert any("had to do without rgb" in warning for warning in summary.warnings)


def test_samples_of_another_bag_take_the_place_of_the_own(
    bag: Path, clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    _, table = under(swap=f"depth={bag}")
    assert table["mean"] == clean["mean"], "of the same bag, what it holds at the same time"
    summary, table = under(swap=f"depth={bag}@0.4:", delay="wrench=0.0")
    assert summary.sets == STEPS and table["mean"] == clean["mean"]
    with pytest.raises(BagError, match="nowhere"):
        under(swap="depth=nowhere")


def test_a_topic_that_the_bag_lacks_can_be_dropped_altogether(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def without(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        if topic != "/action":
            yield log_ns, content

    job = ReplayJob(checkpoint, device="cpu", faults={"drop": ("action",)})
    summary = replay(edited(bag, without), tmp_path / "out", job)
    assert summary.sets_by_subset == {"rgb+depth+force": STEPS}
    assert "/action: no messages, so action is never judged" in summary.warnings
    assert "action" not in summary.evaluation.of("rgb").mse
