"""The parts of the closed loop: the head that reads a pose, what a fault brings, and attempts in simulated time."""

import sys
from pathlib import Path

import numpy as np
import pytest

# Last, since the built package has the messages that smvae_ros/ of the repository lacks.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.closed_loop import _share, _verdicts
from benchmarks.insertion import CONDITIONS, LIMIT_S, Condition, Outcome, Task, attempts
from benchmarks.insertion_feeds import SENSORS, STEP_S, LatentFeed, RawFeed, RememberingFeed, TruePose
from benchmarks.pose_head import (
    POSE,
    Precision,
    Steps,
    fit,
    load,
    outage_mask,
    precision,
    raw,
    remembering_latents,
    save,
)
from smvae_core import checkpoint
from smvae_core.inference.engine import Engine
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
    """The true pose; notes which modalities arrived at each step of each attempt, and their pictures."""

    def begin(self, attempts):
        self.seen = [[] for _ in range(attempts)]

    def read(self, attempts, arrays, worlds):
        for number, one in zip(attempts, arrays):
            self.seen[number].append({name: x.copy() for name, x in one.items()})
        return super().read(attempts, arrays, worlds)


@pytest.mark.rendering
def test_by_the_true_pose_the_peg_is_inserted_and_attempts_side_by_side_are_those_made_alone():
    alone = attempts(TruePose(), CONDITIONS[0], MODALITIES, [3], Task.INSERTION)
    both = attempts(TruePose(), CONDITIONS[0], MODALITIES, [4, 3], Task.INSERTION)
    assert both[1:] == alone
    for one in both:
        assert one.inserted and one.reached and one.seconds < LIMIT_S and one.error_mm == 0.0


@pytest.mark.rendering
def test_up_to_the_contact_attempts_end_there_and_a_sensor_that_fails_stays_so():
    feed = Recording()
    for fault in ("unplugged", "frozen"):
        condition = next(c for c in CONDITIONS if c.fault == fault and c.sensors == ("rgb",))
        (outcome,) = attempts(feed, condition, MODALITIES, [3], Task.CONTACT)
        assert outcome.reached and not outcome.inserted
        (seen,) = feed.seen
        assert len(seen) == round(outcome.seconds / STEP_S) - 1
        assert set(seen[0]) == set(SENSORS)
        if fault == "unplugged":
            assert set(seen[-1]) == {"depth", "force"}
        else:
            assert set(seen[-1]) == set(SENSORS)
            assert np.array_equal(seen[-1]["rgb"], seen[-2]["rgb"])
            assert not np.array_equal(seen[-1]["depth"], seen[-2]["depth"])


class Sum:
    """Stands in for a head: reads the sum of its numbers."""

    def read(self, x):
        return np.repeat(x.sum(axis=1, keepdims=True), POSE + 1, axis=1)


class Means:
    """Stands in for a head: notes the latents that it is given."""

    def __init__(self):
        self.given = []

    def read(self, x):
        self.given.append(x.copy())
        return np.zeros((len(x), POSE + 1), np.float32)


def noise(names, seed):
    random = np.random.default_rng(seed)
    return {m.name: random.random(m.shape, np.float32) for m in MODALITIES if m.name in names}


def test_the_latents_of_attempts_side_by_side_are_those_of_the_engine():
    loaded, head = checkpoint.load(checkpoint.default_checkpoint()), Means()
    engine = Engine(loaded, "cpu", "eager")
    sets = [noise(("rgb", "depth", "force"), 0), noise(("force",), 1)]
    plain = LatentFeed(loaded.model, head)
    plain.read([0, 1], sets, [])
    expected = np.stack([engine.infer(one).mean for one in sets])
    assert np.abs(head.given[0] - expected).max() < 1e-4
    remembering = RememberingFeed(loaded, head)
    remembering.begin(2)
    states = [None, None]
    for step in range(3):
        sets = [noise(("rgb", "depth", "force"), step), noise(("force",), 10 + step)]
        actions = [noise(("action",), 20 + step)["action"], noise(("action",), 30 + step)["action"]]
        remembering.read([0, 1], sets, [])
        remembering.decided([0, 1], actions)
        for row, (one, action) in enumerate(zip(sets, actions)):
            kept = {} if states[row] is None else {"state": states[row], "elapsed": STEP_S}
            read = engine.infer(one, **kept)
            assert np.abs(head.given[-1][row] - read.mean).max() < 1e-3
            states[row] = engine.infer({**one, "action": action}, **kept).state


def test_latents_of_whole_trajectories_are_those_of_one_step_after_the_other():
    loaded, count = checkpoint.load(checkpoint.default_checkpoint()), (4, 2)
    model = loaded.model.eval()
    arrays = {m.name: np.stack([noise((m.name,), s)[m.name] for s in range(6)]) for m in MODALITIES}
    steps = Steps(arrays, np.zeros((6, POSE + 1), np.float32), count)
    mask = np.ones((6, 4), bool)
    mask[2, 0] = False
    found = remembering_latents(model, steps, mask, SENSORS)
    head = Means()
    feed = RememberingFeed(loaded, head)
    feed._watch = None
    for begin, length in ((0, 4), (4, 2)):
        feed.begin(1)
        for row in range(begin, begin + length):
            one = {n: arrays[n][row] for c, n in enumerate(model.names) if n in SENSORS and mask[row, c]}
            feed.read([0], [one], [])
            feed.decided([0], [arrays["action"][row]])
            assert np.abs(head.given[-1][0] - found[row]).max() < 1e-4


def test_outages_take_sensors_away_and_never_the_command():
    model = checkpoint.load(checkpoint.default_checkpoint()).model
    steps = Steps({}, np.zeros((800, POSE + 1), np.float32), (400, 400))
    mask = outage_mask(model, steps, SENSORS, np.random.default_rng(0))
    assert mask[:, model.names.index("action")].all() and mask[:10].all()
    for name in SENSORS:
        assert 0 < mask[:, model.names.index(name)].mean() < 1


@pytest.mark.parametrize("hold", [True, False])
def test_what_is_missing_is_zero_or_the_last_value(hold):
    feed = RawFeed(MODALITIES, Sum(), hold)
    ones = {m.name: np.ones(m.shape, np.float32) for m in MODALITIES if m.name in SENSORS}
    feed.begin(1)
    whole = feed.read([0], [ones], [])[0, 0]
    assert whole == raw({name: x[None] for name, x in ones.items()}, SENSORS).sum()
    without = feed.read([0], [{"depth": ones["depth"], "force": ones["force"]}], [])[0, 0]
    assert without == (whole if hold else whole - 3 * 32 * 32)
    feed.begin(1)
    assert feed.read([0], [{}], [])[0, 0] == 0.0


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
    rows = _verdicts(found, ["latent", "raw, zeros", "raw, held"], Task.INSERTION, 10)[4:7]
    assert [row.rsplit("|", 2)[1].strip() for row in rows] == ["yes", "**no**", "**no**"]
