"""Levels and sentences of the diagnostics, the closing summary, the parameter file and the point cloud."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.point_cloud import CalibrationError, points_from_depth
from smvae_ros.node.diagnostics import ModalityReport, NodeReport, closing_summary, diagnostic_statuses
from smvae_ros.node.statistics import Statistics
from smvae_ros.settings import NodeSettings, default_settings
from smvae_ros.synchronizer.stream import StreamCounts

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
WELL = {
    "name": "rgb",
    "topic": "/rgb/image",
    "alive": True,
    "rate": 20.0,
    "age": 0.01,
    "share": 1.0,
    "received": 9,
    "used": 9,
}
BUSY = {
    "state": "active",
    "problem": "",
    "device": "cpu",
    "receiving": True,
    "sets": 20,
    "recent_sets": 20,
    "recent_skips": 0,
    "recent_failures": 0,
}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, OK, "20.0 Hz"),
        ({"enabled": False}, OK, "disabled"),
        ({"received": 0, "alive": False}, STALE, "/rgb/image yet"),
        ({"alive": False, "age": 3.0, "rate": 0.0}, STALE, "for 3.0 s"),
        ({"alive": False, "share": 0.0}, WARN, "20.0 Hz, but in no set"),
        ({"share": 0.0}, WARN, "in no set of the last second"),
        ({"unheard": "a publisher offers less reliability", "received": 0}, STALE, "yet: a publisher offers less"),
        ({"bad": 2, "share": 0.9}, WARN, "2 messages"),
        (
            {"bad": 20, "share": 0.0, "reason": "found 'mono16'"},
            ERROR,
            "no usable message on /rgb/image: found 'mono16'",
        ),
        ({"problem": "stamps are 2 h behind"}, WARN, "/rgb/image: stamps are"),
        ({"problem": "in no set", "share": 0.0}, ERROR, "/rgb/image: in no set"),
        ({"problem": "stamps are 2 h ahead", "share": 0.0, "alive": False}, ERROR, "2 h ahead"),
    ],
)
def test_the_level_of_a_modality(changes: dict[str, Any], level: bytes, words: str) -> None:
    found, message = ModalityReport(**{**WELL, **changes}).verdict()
    assert found == level
    assert words in message


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, OK, "20 sets"),
        ({"state": "inactive"}, WARN, "inactive"),
        ({"state": "unconfigured", "problem": "no such checkpoint"}, ERROR, "no such checkpoint"),
        ({"recent_sets": 0, "receiving": False}, STALE, "no sensor"),
        ({"recent_sets": 0}, ERROR, "no message that arrives can be used"),
        ({"recent_skips": 5}, WARN, "5 of 20"),
        ({"recent_failures": 1}, ERROR, "1 sets failed"),
    ],
)
def test_the_level_of_the_node(changes: dict[str, Any], level: bytes, words: str) -> None:
    found, message = NodeReport(**{**BUSY, **changes}, statistics=Statistics()).verdict()
    assert found == level
    assert words in message


def test_each_status_bears_the_nodes_name_and_the_counts_by_reason() -> None:
    report = ModalityReport(**{**WELL, "dropped": {"late": 3, "duplicate": 1}})
    node, rgb = diagnostic_statuses("robot/fusion", "cpu", NodeReport(**BUSY, statistics=Statistics()), [report])
    assert (node.name, rgb.name) == ("robot/fusion: fusion", "robot/fusion: rgb")
    values = {pair.key: pair.value for pair in rgb.values}
    assert (values["dropped: late"], values["dropped: duplicate"], values["rate (Hz)"]) == ("3", "1", "20.0")


def test_percentiles_are_of_the_last_thousand_sets() -> None:
    statistics = Statistics()
    assert statistics.percentiles()["latency"] == (0.0, 0.0)
    for seconds in [9.0] * 500 + [float(i) for i in range(1001)]:
        statistics.add_times({"latency": seconds})
    assert statistics.percentiles()["latency"] == pytest.approx((500.5, 990.01))


@pytest.mark.parametrize(
    ("processor", "inference", "words"),
    [
        (0.09, 0.1, "a set takes 100 ms and comes every 50 ms: the model is slower than the sensors"),
        (0.03, 0.1, "of which the worker computes 30 ms: other work takes the processor"),
        (0.02, 0.02, "a set takes 20 ms and comes every 50 ms; sets come in bursts"),
    ],
)
def test_skipped_sets_are_explained_by_times(processor: float, inference: float, words: str) -> None:
    statistics = Statistics()
    statistics.add_times({"processor": processor, "inference": inference})
    level, message = NodeReport(**{**BUSY, "recent_skips": 5}, statistics=statistics).verdict()
    assert level == WARN and "5 of 20 sets skipped" in message and words in message


def test_the_closing_summary_tells_sets_modalities_latency_and_drops() -> None:
    statistics = Statistics()
    statistics.published, statistics.skipped, statistics.unheard = 18, 1, 2
    statistics.add_times({"latency": 0.05})
    counts = {"rgb": StreamCounts(sets=20), "depth": StreamCounts(sets=5, dropped=Counter(late=3, future=0))}
    assert closing_summary(statistics, 20, counts) == (
        "closing summary: 18 latents of 20 sets: rgb in 100%, depth in 25%; latency p50 50 ms, p99 50 ms; "
        "2 sets not run, as nobody listened; 1 sets skipped; dropped: depth 3 late"
    )
    assert (
        closing_summary(Statistics(), 0, counts | {"depth": StreamCounts()}) == "closing summary: 0 latents of 0 sets"
    )


def test_the_configuration_file_holds_every_parameter_with_its_default() -> None:
    content = yaml.safe_load((Path(__file__).parents[3] / "config" / "fusion.yaml").read_text())
    defaults = {**NodeSettings().model_dump(), **default_settings(vision_touch_modalities()).model_dump(mode="json")}
    for stream in defaults["streams"].values():
        # A parameter file cannot hold an empty list.
        stream |= {key: value or [""] for key, value in stream.items() if isinstance(value, list)}
    assert content["/**"]["ros__parameters"] == defaults


@given(st.integers(1, 8), st.integers(1, 8), st.floats(20.0, 500.0))
def test_points_project_back_to_the_centres_of_their_pixels(scale_x: int, scale_y: int, focal: float) -> None:
    depth = np.array([[0.5, 0.0], [1.0, 1.5], [0.0, 2.0]], np.float32)
    width, height = 2 * scale_x, 3 * scale_y
    cx, cy = width / 2 - 0.5, height / 2 - 0.5
    points = points_from_depth(depth, width, height, np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1]))
    rows, columns = np.nonzero(depth)
    assert points.dtype == np.float32
    assert points[:, 2] == pytest.approx(depth[rows, columns])
    u, v = points[:, 0] / points[:, 2] * focal + cx, points[:, 1] / points[:, 2] * focal + cy
    assert (u + 0.5) / scale_x - 0.5 == pytest.approx(columns, abs=1e-3)
    assert (v + 0.5) / scale_y - 0.5 == pytest.approx(rows, abs=1e-3)


@pytest.mark.parametrize(("place", "value"), [(0, math.inf), (4, math.nan), (2, math.nan), (5, -math.inf), (0, 1e-300)])
def test_a_calibration_that_gives_no_finite_points_is_refused(place: int, value: float) -> None:
    k = np.array([500.0, 0.0, 32.0, 0.0, 500.0, 32.0, 0.0, 0.0, 1.0])
    k[place] = value
    with pytest.raises(CalibrationError, match="finite"):
        points_from_depth(np.ones((64, 64), np.float32), 64, 64, k)


def test_an_empty_camera_info_is_refused() -> None:
    with pytest.raises(CalibrationError, match="0x0"):
        points_from_depth(np.ones((2, 2), np.float32), 0, 0, np.zeros(9))
