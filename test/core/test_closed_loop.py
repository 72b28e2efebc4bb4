"""The parts of the closed loop: the head that reads a pose, what a fault brings, and attempts in simulated time."""

import sys
from pathlib import Path

import numpy as np
import pytest

# Last, since the built package has the messages that smvae_ros/ of the repository lacks.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.closed_loop import _share, _verdicts
from benchmarks.insertion import CONDITIONS, LIMIT_S, SENSORS, Condition, Outcome, RawFeed, TruePose, attempt
from benchmarks.pose_head import POSE, Precision, fit, load, precision, raw, save
from smvae_core.modality import vision_touch_modalities

MODALITIES = vision_touch_modalities()


def test_a_head_learns_a_pose_and_a_contact_and_is_the_same_from_a_file(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 6)).astype(np.float32)
    truth = np.column_stack([0.01 * x[:, :3], 0.1 * np.tanh(x[:, 3]), x[:, 4] > 0]).astype(np.float32)
    head = fit(x[:1500], truth[:1500])
    read = head.read(x[1500:])
    assert np.sqrt(np.square(read[:, :3] - truth[1500:, :3]).mean()) < 0.001
    assert ((read[:, POSE] > 0.5) == (truth[1500:, POSE] > 0.5)).mean() > 0.95
    save(tmp_path / "head", head)
    assert np.array_equal(load(tmp_path / "head").read(x), head.read(x))


def test_precision_is_judged_near_the_hole():
    truth = np.array([[0.0, 0.01, 0.0, 0.0, 1.0], [0.1, 0.0, 0.0, 0.0, 0.0]])
    read = truth + np.array([[0.003, 0.004, 0.002, 0.05, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert precision(read, truth) == pytest.approx(Precision(5.0, 2.0, 50.0, 1.0))


class Recording(TruePose):
    """The true pose; notes which modalities arrived at each step, and their pictures."""

    def __init__(self):
        self.seen = []

    def read(self, arrays, world):
        self.seen.append({name: x.copy() for name, x in arrays.items()})
        return super().read(arrays, world)


@pytest.mark.rendering
def test_by_the_true_pose_the_peg_is_inserted_and_the_same_seed_gives_the_same():
    first, again = (attempt(TruePose(), CONDITIONS[0], MODALITIES, seed=3) for _ in range(2))
    assert first == again
    assert first.inserted and first.reached and first.seconds < LIMIT_S and first.error_mm == 0.0


@pytest.mark.rendering
@pytest.mark.parametrize("fault", ["unplugged", "frozen"])
def test_a_sensor_fails_in_mid_attempt_and_stays_so(fault):
    feed = Recording()
    condition = next(c for c in CONDITIONS if c.fault == fault and c.sensors == ("rgb",))
    attempt(feed, condition, MODALITIES, seed=3)
    assert set(feed.seen[0]) == set(SENSORS)
    if fault == "unplugged":
        assert set(feed.seen[-1]) == {"depth", "force"}
    else:
        assert set(feed.seen[-1]) == set(SENSORS)
        assert np.array_equal(feed.seen[-1]["rgb"], feed.seen[-2]["rgb"])
        assert not np.array_equal(feed.seen[-1]["depth"], feed.seen[-2]["depth"])


class Sum:
    """Stands in for a head: reads the sum of its numbers."""

    def read(self, x):
        return np.repeat(x.sum(axis=1, keepdims=True), POSE + 1, axis=1)


@pytest.mark.parametrize("hold", [True, False])
def test_what_is_missing_is_zero_or_the_last_value(hold):
    feed = RawFeed(MODALITIES, Sum(), hold)
    ones = {m.name: np.ones(m.shape, np.float32) for m in MODALITIES if m.name in SENSORS}
    whole = feed.read(ones, None)[0]
    assert whole == raw({name: x[None] for name, x in ones.items()}, SENSORS).sum()
    without = feed.read({"depth": ones["depth"], "force": ones["force"]}, None)[0]
    assert without == (whole if hold else whole - 3 * 32 * 32)
    feed.begin()
    assert feed.read({}, None)[0] == 0.0


def test_intervals_and_goals_are_of_the_failures():
    assert _share([True] * 98 + [False] * 2) == "98 % (93 to 99)"
    good, bad = Outcome(True, True, 5.0, 1.0), Outcome(False, True, 20.0, 9.0)
    approach = Condition("camera unplugged while aligning", ("rgb",))
    found = {
        ("latent", "all sensors"): [good] * 9 + [bad],
        ("latent", approach.name): [good] * 8 + [bad] * 2,
        ("raw, zeros", approach.name): [good] * 6 + [bad] * 4,
        ("raw, held", approach.name): [good] * 7 + [bad] * 3,
    }
    rows = _verdicts(found, ["latent", "raw, zeros", "raw, held"], 10)[4:7]
    assert [row.rsplit("|", 2)[1].strip() for row in rows] == ["yes", "**no**", "**no**"]
