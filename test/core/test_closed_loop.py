"""The parts of the closed loop: the head that reads a pose, what a fault brings, and attempts in simulated time."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# Last, since the built package has the messages that smvae_ros/ of the repository lacks.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks import closed_loop_arguments
from benchmarks.closed_loop import Kept
from benchmarks.closed_loop_heads import HELD, MEMORY, OURS, ZEROS
from benchmarks.closed_loop_table import share, verdicts
from benchmarks.insertion import CONDITIONS, LIMIT_S, Condition, Outcome, Task, attempts, next_action
from benchmarks.insertion_feeds import SENSORS, STEP_S, LatentFeed, RawFeed, Recorder, RememberingFeed, TruePose
from benchmarks.pose_filter import PoseFilter
from benchmarks.pose_head import POSE, Precision, fit, load, precision, save
from benchmarks.pose_steps import numbers, outage_mask, raw, remembering_latents, steps_of
from smvae_core import checkpoint
from smvae_core.errors import SMVAEError
from smvae_core.inference.engine import Engine
from smvae_core.modality import vision_touch_modalities
from smvae_core.simulation.policy import PegPolicy

MODALITIES = vision_touch_modalities()
NOTHING = np.zeros((0, POSE + 1))


def test_a_head_learns_a_pose_its_spread_and_a_contact_and_is_the_same_from_a_file(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 6)).astype(np.float32)
    noise = np.where(x[:, 5:] > 0, 0.004, 0.0005) * random.normal(size=(4000, 3))
    truth = np.column_stack([0.01 * x[:, :3] + noise, 0.1 * np.tanh(x[:, 3]), x[:, 4] > 0]).astype(np.float32)
    head = fit(x[:3000], truth[:3000])
    read, known, noisy = head.read(x[3000:]), truth[3000:], x[3000:, 5] > 0.3
    assert np.sqrt(np.square(read[:, :3] - known[:, :3])[~noisy].mean()) < 0.003
    assert ((read[:, POSE] > 0.5) == (known[:, POSE] > 0.5)).mean() > 0.95
    # σ tells noisy readings from the others, and is as large as their errors.
    sigma, error = read[:, POSE + 1 : POSE + 4], np.square(read[:, :3] - known[:, :3])
    assert sigma[noisy].mean() > 2 * sigma[~noisy & (x[3000:, 5] < -0.3)].mean()
    assert 0.5 < np.mean(error / np.square(sigma)) < 2
    save(tmp_path / "head", head)
    assert np.array_equal(load(tmp_path / "head").read(x), head.read(x))


def test_precision_is_judged_near_the_hole():
    truth = np.array([[0.0, 0.01, 0.0, 0.0, 1.0], [0.1, 0.0, 0.0, 0.0, 0.0]])
    read = truth + np.array([[0.003, 0.004, 0.002, 0.05, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    read = np.column_stack([read, np.tile([0.003, 0.002, 1.0, 1.0], (2, 1))])
    assert precision(read, truth) == pytest.approx(Precision(5.0, 2.0, 50.0, 1.0, 2.5))


def test_the_filter_weighs_readings_by_their_spread_and_follows_commands_without_them():
    one = PoseFilter()
    for _ in range(40):
        one.read(np.array([0.03, -0.02, 0.04, 0.1]), np.full(4, 0.001))
    assert np.abs(one.pose - [0.03, -0.02, 0.04, 0.1]).max() < 0.001
    before = one.sigma
    one.read(np.array([0.2, 0.2, 0.2, 1.0]), np.full(4, 0.5))  # one that knows nothing
    assert np.abs(one.pose - [0.03, -0.02, 0.04, 0.1]).max() < 0.002
    for _ in range(5):
        one.move(np.array([-0.005, 0.0, -0.002, 0.0]), touching=False)
    assert one.pose[0] == pytest.approx(0.005, abs=0.002) and one.pose[2] == pytest.approx(0.03, abs=0.002)
    assert (one.sigma > before).all()


def test_one_wild_reading_hardly_moves_the_filter_and_many_do():
    one = PoseFilter()
    for _ in range(40):
        one.read(np.zeros(4), np.full(4, 0.001))
    one.read(np.array([0.1, 0.0, 0.0, 0.0]), np.full(4, 0.001))
    assert abs(one.pose[0]) < 0.005
    for _ in range(200):
        one.move(np.zeros(4), touching=False)
        one.read(np.array([0.1, 0.0, 0.0, 0.0]), np.full(4, 0.001))
    assert one.pose[0] == pytest.approx(0.1, abs=0.01)


class Recording(TruePose):
    """The true pose; notes which modalities arrived at each step of each attempt, and their pictures."""

    def begin(self, attempts):
        self.seen = [[] for _ in range(attempts)]

    def read(self, attempts, arrays, truth):
        for number, one in zip(attempts, arrays):
            self.seen[number].append({name: x.copy() for name, x in one.items()})
        return super().read(attempts, arrays, truth)


@pytest.mark.rendering
def test_by_the_true_pose_the_peg_is_inserted_and_attempts_side_by_side_are_those_made_alone():
    alone = attempts(TruePose(), CONDITIONS[0], MODALITIES, [3], Task.INSERTION)
    both = attempts(TruePose(), CONDITIONS[0], MODALITIES, [4, 3], Task.INSERTION)
    assert both[1:] == alone
    for one in both:
        assert one.inserted and one.reached and one.seconds < LIMIT_S and one.error_mm < 1.0


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
        return np.repeat(x.sum(axis=1, keepdims=True), 2 * POSE + 1, axis=1)


class Means:
    """Stands in for a head: notes the means of the latents that it is given."""

    def __init__(self):
        self.given = []

    def read(self, x):
        self.given.append(x[:, : x.shape[1] // 2].copy())
        return np.zeros((len(x), 2 * POSE + 1), np.float32)


def noise(names, seed):
    random = np.random.default_rng(seed)
    return {m.name: random.random(m.shape, np.float32) for m in MODALITIES if m.name in names}


def test_the_latents_of_attempts_side_by_side_are_those_of_the_engine():
    loaded, head = checkpoint.load(checkpoint.default_checkpoint()), Means()
    engine = Engine(loaded, "cpu", "eager")
    sets = [noise(("rgb", "depth", "force"), 0), noise(("force",), 1)]
    plain = LatentFeed(loaded.model, head)
    plain.read([0, 1], sets, NOTHING)
    expected = np.stack([engine.infer(one).mean for one in sets])
    assert np.abs(head.given[0] - expected).max() < 1e-4
    remembering = RememberingFeed(loaded, head)
    remembering.begin(2)
    states = [None, None]
    for step in range(3):
        sets = [noise(("rgb", "depth", "force"), step), noise(("force",), 10 + step)]
        actions = [noise(("action",), 20 + step)["action"], noise(("action",), 30 + step)["action"]]
        remembering.read([0, 1], sets, NOTHING)
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
    steps = steps_of(model, arrays, np.zeros((6, POSE + 1)), count)
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
            feed.read([0], [one], NOTHING)
            feed.decided([0], [arrays["action"][row]])
            assert np.abs(head.given[-1][0] - found[row, : model.configuration.latent]).max() < 1e-4


def made_steps(lengths):
    model = checkpoint.load(checkpoint.default_checkpoint()).model.eval()
    arrays = {m.name: np.stack([noise((m.name,), s)[m.name] for s in range(sum(lengths))]) for m in MODALITIES}
    return model, arrays, steps_of(model, arrays, np.zeros((sum(lengths), POSE + 1)), lengths)


def test_outages_take_sensors_away_and_never_the_command():
    model, _, few = made_steps((2, 2))
    everything = np.ones((800, len(model.names)), bool)
    steps = replace(few, arrived=everything, truth=np.zeros((800, POSE + 1)), lengths=(400, 400))
    mask = outage_mask(steps, model.names, SENSORS, np.random.default_rng(0))
    assert mask[:, model.names.index("action")].all() and mask[:5].all()
    for name in SENSORS:
        assert 0 < mask[:, model.names.index(name)].mean() < 1


@pytest.mark.parametrize("hold", [True, False])
def test_what_is_missing_is_zero_or_the_last_value_in_attempts_as_in_training(hold):
    model, arrays, steps = made_steps((3, 2))
    mask = np.ones((5, 4), bool)
    mask[1:4, model.names.index("rgb")] = False  # also where the second trajectory begins
    trained = raw(steps, SENSORS, mask, hold).sum(axis=1)
    feed = RawFeed(MODALITIES, Sum(), hold)
    for begin, length in ((0, 3), (3, 2)):
        feed.begin(1)
        for row in range(begin, begin + length):
            one = {n: arrays[n][row] for c, n in enumerate(model.names) if n in SENSORS and mask[row, c]}
            if hold and row == 3:
                continue  # nothing was there before: in training, the row itself
            assert feed.read([0], [one], NOTHING)[0, 0] == pytest.approx(trained[row], rel=1e-5)
    if not hold:
        without = numbers(arrays["depth"][1:2]).sum() + numbers(arrays["force"][1:2]).sum()
        assert trained[1] == pytest.approx(without, rel=1e-5)
    feed.begin(1)
    assert feed.read([0], [{}], NOTHING)[0, 0] == 0.0


def test_attempts_that_are_recorded_are_steps_to_train_on():
    model, arrays, steps = made_steps((2, 1))
    feed = Recorder(TruePose(), model)
    feed.begin(2)
    for row, running in ((0, [0, 1]), (1, [0])):
        rows = [row, 2][: len(running)]
        truth = np.array([[0.01 * r, 0, 0, 0, 1] for r in rows])
        read = feed.read(running, [{n: arrays[n][r] for n in SENSORS} for r in rows], truth)
        assert np.array_equal(read[:, : POSE + 1], truth)
        feed.decided(running, [arrays["action"][r] for r in rows])
    recorded = feed.steps()
    assert recorded.lengths == (2, 1) and recorded.truth[:, 0] == pytest.approx([0.0, 0.01, 0.02])
    assert recorded.arrived.all()
    assert np.abs((recorded.embeddings - steps.embeddings).numpy()).max() < 1e-4
    assert all(np.array_equal(recorded.raw[name], steps.raw[name]) for name in steps.raw)


def test_what_did_not_arrive_in_an_attempt_stays_away_when_it_is_trained_on():
    model, arrays, _ = made_steps((2,))
    feed = Recorder(TruePose(), model)
    feed.begin(1)
    for row, sensors in enumerate((SENSORS, ("depth", "force"))):
        feed.read([0], [{name: arrays[name][row] for name in sensors}], np.zeros((1, POSE + 1)))
        feed.decided([0], [arrays["action"][row]])
    recorded, rgb = feed.steps(), model.names.index("rgb")
    assert recorded.arrived[0].all() and np.flatnonzero(~recorded.arrived[1]).tolist() == [rgb]
    assert not recorded.raw["rgb"][1].any()
    assert not outage_mask(recorded, model.names, SENSORS, np.random.default_rng(0))[1, rgb]


def known_to(pose, sigma):
    one = PoseFilter()
    for _ in range(50):
        one.read(pose, np.full(4, sigma))
    return one


def test_the_peg_goes_down_only_over_the_hole_and_slowly_where_little_is_known():
    for beside, goes_down in ((0.02, False), (0.002, True)):
        policy = PegPolicy(np.random.default_rng(0))
        known = known_to(policy.above + [beside, 0.0, 0.005, 0.0], 1e-3)
        assert any(next_action(policy, known, touching=False)[2] < 0.0 for _ in range(20)) == goes_down
    fast, slow = (
        next_action(
            PegPolicy(np.random.default_rng(0)), known_to(np.array([0.1, 0.1, 0.1, 0.0]), sigma), touching=False
        )
        for sigma in (1e-3, 1.0)
    )
    assert np.linalg.norm(slow) < 0.5 * np.linalg.norm(fast)


def test_what_was_reached_is_kept_and_belongs_to_one_checkpoint(tmp_path):
    kept = Kept(tmp_path, {"model": "a"})
    one = Outcome(True, True, 5.0, 1.0)
    kept.add(OURS, CONDITIONS[0].name, (0, 1), [one, one._replace(reached=False)])
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('["latent", "all se')  # of a call that was killed
    again = Kept(tmp_path, {"model": "a"})
    assert again.outcomes == kept.outcomes
    assert again.by_condition(1) == {(OURS, "all sensors"): [one]}
    with pytest.raises(SMVAEError, match="--out: expected a folder made with .*'b'.*, found .*'a'"):
        Kept(tmp_path, {"model": "b"})


def test_intervals_and_goals_are_of_the_failures():
    assert share([True] * 98 + [False] * 2) == "98 % (93 to 99)"
    good, bad = Outcome(True, True, 5.0, 1.0), Outcome(False, True, 20.0, 9.0)
    approach = Condition("camera unplugged while aligning", ("rgb",))
    found = {
        (MEMORY, "all sensors"): [good] * 9 + [bad],
        (MEMORY, approach.name): [good] * 8 + [bad] * 2,
        (ZEROS, approach.name): [good] * 6 + [bad] * 4,
        (HELD, approach.name): [good] * 7 + [bad] * 3,
    }
    rows = verdicts(found, Task.INSERTION)[4:7]
    assert [row.rsplit("|", 2)[1].strip() for row in rows] == ["yes", "**no**", "**no**"]
    # Half as many attempts are not compared.
    found[ZEROS, approach.name] = [good] * 3 + [bad] * 2
    assert not any("against raw, zeros" in row for row in verdicts(found, Task.INSERTION))


def test_a_peg_searches_only_on_its_way_to_the_bottom_and_what_there_is_not_is_named():
    def asked(*more):
        arguments = closed_loop_arguments.parser(None, 10).parse_args(["--logs", "logs", "--out", "out", *more])
        chosen = closed_loop_arguments.chosen_conditions(arguments)
        return [one.name for one in chosen], closed_loop_arguments.chosen_feeds(arguments, [OURS, ZEROS, HELD])

    conditions, feeds = asked()
    assert feeds == [OURS, ZEROS, HELD] and not any("searching" in name for name in conditions)
    assert asked("--task", "insertion")[0] == [condition.name for condition in CONDITIONS]
    conditions, feeds = asked("--task", "insertion", "--conditions", "searching", "--feeds", HELD, OURS)
    assert feeds == [OURS, HELD] and conditions and all("searching" in name for name in conditions)
    with pytest.raises(SMVAEError, match="--conditions: expected parts of all sensors, "):
        asked("--conditions", "searching")
    with pytest.raises(SMVAEError, match=f"--feeds: expected some of {OURS}; .*, found sonar"):
        asked("--feeds", "sonar")
