"""What-if: what the command line's words mean, what they do to a replay, and what nonsense gets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.modality import vision_touch_modalities
from smvae_ros.replay.faults import Faults, WhatIfError, dropped_altogether, parse_what_if
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.summary import Drop, ReplaySummary, WhatIf
from smvae_ros.settings import default_settings
from smvae_ros.synchronizer.set_synchronizer import Sample

STEPS = 21
SETTINGS = default_settings(vision_touch_modalities())


def what_if(**words: str) -> WhatIf:
    given_words = [[words[option]] if option in words else [] for option in ("drop", "noise", "delay")]
    return parse_what_if(*given_words, SETTINGS)


def test_modalities_are_named_by_modality_or_topic() -> None:
    parsed = parse_what_if(["rgb@10:20,wrench", "/depth/image@5:"], ["force=0.5"], ["rgb=0.08,action=0.1"], SETTINGS)
    assert parsed.drop == (
        Drop(modality="rgb", start=10.0, end=20.0),
        Drop(modality="force"),
        Drop(modality="depth", start=5.0),
    )
    assert (parsed.noise, parsed.delay) == ({"force": 0.5}, {"rgb": 0.08, "action": 0.1})
    assert dropped_altogether(parsed) == {"force"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"drop": "sonar"}, "--drop: expected a modality among rgb, depth, .*, /rgb/image, .*, found 'sonar'"),
        ({"drop": "rgb@20:10"}, "--drop: expected MODALITY@START:END in seconds .*, found 'rgb@20:10'"),
        ({"drop": "rgb@5"}, "--drop: expected MODALITY@START:END"),
        ({"drop": "rgb@a:b"}, "--drop: expected MODALITY@START:END"),
        ({"drop": "rgb@nan:3"}, "--drop: expected MODALITY@START:END"),
        ({"drop": ""}, "--drop: expected a modality among"),
        ({"noise": "depth"}, "--noise: expected MODALITY=STANDARD DEVIATION between 0 and 100, found 'depth'"),
        ({"noise": "depth=-1"}, "--noise: expected MODALITY=STANDARD DEVIATION"),
        ({"delay": "rgb=nan"}, "--delay: expected MODALITY=SECONDS between 0 and 60, found 'rgb=nan'"),
        ({"delay": "rgb=soon"}, "--delay: expected MODALITY=SECONDS between 0 and 60, found 'rgb=soon'"),
        ({"delay": "rgb=0.1,/rgb/image=0.2"}, "--delay: expected rgb once, found it again in '/rgb/image=0.2'"),
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
    faults = Faults(words, vision_touch_modalities())
    begin_ns = 1_600_000_000_000_000_000
    arrival_ns = faults.arrival("rgb", begin_ns + at, begin_ns)
    if start * 1_000_000_000 <= at < (start + length) * 1_000_000_000:
        assert arrival_ns is None
    else:
        assert arrival_ns == begin_ns + at + round(delay * 1e9) and faults.longest_delay_ns == round(delay * 1e9)
    assert faults.arrival("depth", begin_ns + at, begin_ns) == begin_ns + at


def test_noise_has_its_deviation_and_is_the_same_for_the_same_sample() -> None:
    faults = Faults(what_if(noise="depth=0.1,action=0.5"), vision_touch_modalities())
    depth = np.full((1, 64, 64), 0.5, np.float32)
    depth[:, :10] = 0.0
    noisy = faults.disturbed("depth", depth, [Sample(7, None)])
    assert noisy.dtype == np.float32 and not noisy[:, :10].any(), "no reading remains none"
    assert np.std(noisy[:, 10:] - 0.5) == pytest.approx(0.1, rel=0.05)
    assert noisy.min() >= 0.0 and noisy.max() <= 1.0
    assert np.array_equal(noisy, faults.disturbed("depth", depth, [Sample(7, None)]))
    assert not np.array_equal(noisy, faults.disturbed("depth", depth, [Sample(8, None)]))
    assert faults.disturbed("rgb", depth, [Sample(7, None)]) is depth


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
            bag, tmp_path, ReplayJob(checkpoint, device="cpu", **{option: (word,) for option, word in words.items()})
        )
        return summary, pq.read_table(tmp_path / "sets.parquet").to_pydict()

    return run


def test_a_dropped_modality_is_judged_against_what_was_recorded(
    clean: dict[str, list[Any]], under: Callable[..., tuple[ReplaySummary, dict[str, list[Any]]]]
) -> None:
    summary, table = under(drop="wrench,depth@0.5:0.8")
    assert summary.what_if.drop == (Drop(modality="force"), Drop(modality="depth", start=0.5, end=0.8))
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


def test_a_topic_that_the_bag_lacks_can_be_dropped_altogether(
    bag: Path, checkpoint: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def without(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        if topic != "/action":
            yield log_ns, content

    job = ReplayJob(checkpoint, device="cpu", drop=("action",))
    summary = replay(edited(bag, without), tmp_path / "out", job)
    assert summary.sets_by_subset == {"rgb+depth+force": STEPS}
    assert "/action: no messages, so action is never judged" in summary.warnings
    assert "action" not in summary.evaluation.of("rgb").mse
