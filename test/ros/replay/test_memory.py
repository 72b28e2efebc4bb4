"""Memory in a replay: from set to set, whatever the number of threads, as the engine does it one set at a time."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from smvae_core import checkpoint as checkpoints
from smvae_core.inference.engine import Engine
from smvae_core.subsets import all_subsets
from smvae_ros.replay.inference import Batch, BatchInference
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.prepared import Prepared
from smvae_ros.replay.run import replay
from smvae_ros.replay.setup import memory_step
from smvae_ros.replay.threads import judged_in_order
from smvae_ros.report.write import write_report
from smvae_ros.synchronizer.sample_set import SampleSet

NAMES = ("rgb", "depth", "force", "action")
SETS = [NAMES, ("force",), (), ("depth", "action"), NAMES, (), ("rgb",), ("action",)]
ELAPSED = [None, 0.05, 0.4, 0.1, 3.0, 1.5, 0.2, None]
"""A long gap before the fifth set; time jumps back before the last."""


@pytest.mark.parametrize("as_the_node", [False, True])
def test_batches_agree_with_the_engine_set_by_set(remembering: Path, as_the_node: bool) -> None:
    engine = Engine.load(remembering, "cpu", "eager")
    model = checkpoints.load(remembering).model
    step = memory_step(model, engine) if as_the_node else None
    assert (step is not None) == as_the_node
    inference = BatchInference(model, engine.mean, engine.device, pictures=True, step=step)
    random = np.random.default_rng(0)
    whole = [{m.name: random.random(m.shape, np.float32) for m in engine.modalities} for _ in SETS]
    sets = [{name: arrays[name] for name in names} for names, arrays in zip(SETS, whole)]
    first = Batch(sets[:3], whole[:3], ELAPSED[:3])
    second = Batch(sets[3:], whole[3:], ELAPSED[3:], before=first.after)
    judged = [*inference.run(first), *inference.run(second)]
    state = None
    for arrays, truth, elapsed, one in zip(sets, whole, ELAPSED, judged):
        state = state if elapsed is not None else None
        fusion = engine.infer(arrays, NAMES, state, elapsed)
        np.testing.assert_allclose(one.mean, fusion.mean, atol=1e-4)
        np.testing.assert_allclose(one.log_variance, fusion.log_variance, atol=1e-4)
        assert one.attention_of_memory == pytest.approx(fusion.attention_of_memory, abs=1e-4)
        assert one.memory_age == pytest.approx(fusion.memory_age)
        for name in NAMES:
            np.testing.assert_allclose(one.predicted[name], fusion.predictions[name], atol=1e-4)
        # Every subset starts from the same state, and none of them but the set itself goes on.
        held = [subset for subset in all_subsets(NAMES) if set(subset) <= set(arrays)]
        for subset, other in zip(held, engine.infer_subsets(arrays, held, NAMES, state, elapsed)):
            expected = [np.mean((other.predictions[name] - truth[name]) ** 2) for name in NAMES]
            np.testing.assert_allclose(one.errors[subset], expected, rtol=1e-3, atol=1e-6)
        state = fusion.state
    ages = [one.memory_age for one in judged]
    assert ages == [None, 0.05, 0.4, pytest.approx(0.5), None, 1.5, pytest.approx(1.7), None]


def test_a_batch_that_fails_lets_none_wait(remembering: Path) -> None:
    engine = Engine.load(remembering, "cpu", "eager")
    inference = BatchInference(checkpoints.load(remembering).model, engine.mean, engine.device, pictures=False)
    broken = Batch([{"rgb": np.zeros((1, 1), np.float32)}], [{}], [None])
    following = Batch([{}], [{}], [0.1], before=broken.after)
    for batch in (broken, following):
        with pytest.raises(Exception, match="rgb"):
            inference.run(batch)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_set_that_fails_ends_the_replay_on_any_number_of_threads(remembering: Path, threads: int) -> None:
    engine = Engine.load(remembering, "cpu", "eager")
    inference = BatchInference(checkpoints.load(remembering).model, engine.mean, engine.device, pictures=False)
    good = {m.name: np.zeros(m.shape, np.float32) for m in engine.modalities}
    sets = [
        Prepared(
            SampleSet(n * 50_000_000, 0, {}, "complete", 0, 0),
            good if n != 200 else good | {"rgb": np.zeros((1, 1), np.float32)},
            good,
            rejected={},
            frames={},
            joints={},
            seconds=n * 0.05,
            bag_seconds=None,
            in_full=True,
        )
        for n in range(1, 401)
    ]
    done = 0
    with pytest.raises(ValueError, match="shape"):
        for _ in judged_in_order(iter(sets), inference, threads):
            done += 1
    assert done < 200


def test_threads_and_repetition_change_no_byte(bag: Path, remembering: Path, tmp_path: Path) -> None:
    job = ReplayJob(remembering, device="cpu", faults={"drop": ("rgb@0.3:0.8",)}, write_bag=True)
    for name, threads in (("one", 1), ("two", 3)):
        replay(bag, tmp_path / name, job, threads)
    for file in ("sets.parquet", "pictures.npz", "summary.json", "fusion/fusion.mcap"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    table = pq.read_table(tmp_path / "one" / "sets.parquet").to_pydict()
    between = np.diff(table["stamp_ns"]) / 1e9
    assert table["memory_age"][0] is None and table["memory_age"][1:] == pytest.approx(between)
    assert table["attention_of_memory"][0] == 0.0 and all(table["attention_of_memory"][1:])
    text = write_report(tmp_path / "one").read_text()
    assert "sets that began with memory" in text and "better than the mean up to" in text


def test_without_memory_nothing_is_remembered(results: Path) -> None:
    table = pq.read_table(results / "sets.parquet").to_pydict()
    assert not any(table["attention_of_memory"]) and set(table["memory_age"]) == {None}
