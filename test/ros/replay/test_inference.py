"""Sets computed together agree with the engine's own, one at a time, whatever each of them lacks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_core import checkpoint as checkpoints
from smvae_core.configuration import ModelConfiguration
from smvae_core.inference.engine import Engine
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE
from smvae_core.preprocessing import RGB, Vector
from smvae_core.subsets import all_subsets, subset_mask
from smvae_ros.replay.inference import Batch, BatchInference

NAMES = ("rgb", "depth", "force", "action")

Masks = st.lists(st.tuples(*(st.booleans() for _ in NAMES)), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Of the checkpoint that ships."""
    return Engine.load(None, "cpu", "eager")


@pytest.fixture(scope="module")
def inference(engine: Engine) -> BatchInference:
    """The same model."""
    loaded = checkpoints.load(checkpoints.default_checkpoint())
    return BatchInference(loaded.model, engine.mean, engine.device, pictures=True)


def unlinked(sets: list[dict[str, np.ndarray]], truths: list[dict[str, np.ndarray]]) -> Batch:
    """Return a batch that remembers nothing."""
    return Batch(sets, truths, [None] * len(sets))


@settings(max_examples=15, deadline=None)
@given(held=Masks, known=st.tuples(*(st.booleans() for _ in NAMES)), seed=st.integers(0, 1000))
def test_a_batch_agrees_with_the_engine_to_1e_4(
    engine: Engine,
    inference: BatchInference,
    held: list[tuple[bool, ...]],
    known: tuple[bool, ...],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    whole = [{m.name: random.random(m.shape, np.float32) for m in engine.modalities} for _ in held]
    sets = [{n: x[n] for n, here in zip(NAMES, mask) if here} for x, mask in zip(whole, held)]
    truths = [{n: x[n] for n, here in zip(NAMES, known) if here} for x in whole]
    for arrays, truth, judged in zip(sets, truths, inference.run(unlinked(sets, truths))):
        fusion = engine.infer(arrays, NAMES)
        assert judged.held == fusion.modalities
        np.testing.assert_allclose(judged.mean, fusion.mean, atol=1e-4)
        np.testing.assert_allclose(judged.log_variance, fusion.log_variance, atol=1e-4)
        weights = [fusion.attention.get(name, 0.0) for name in NAMES]
        np.testing.assert_allclose(judged.attention, weights, atol=1e-4)
        for name in NAMES:
            np.testing.assert_allclose(judged.predicted[name], fusion.predictions[name], rtol=1e-4, atol=1e-4)
        for name, x in judged.without.items():
            rest = {other: array for other, array in arrays.items() if other != name}
            np.testing.assert_allclose(x, engine.infer(rest, [name]).predictions[name], rtol=1e-4, atol=1e-4)
        assert list(judged.errors) == all_subsets([name for name in NAMES if name in arrays])
        for subset, row in judged.errors.items():
            predictions = engine.infer({name: arrays[name] for name in subset}, NAMES).predictions
            for name, error in zip(NAMES, row):
                if name in truth:
                    assert error == pytest.approx(np.mean((predictions[name] - truth[name]) ** 2), rel=1e-3, abs=1e-6)
                else:
                    assert np.isnan(error)


def test_a_camera_that_is_out_for_a_whole_batch_is_not_judged(engine: Engine) -> None:
    loaded = checkpoints.load(checkpoints.default_checkpoint())
    without_pictures = BatchInference(loaded.model, engine.mean, engine.device, pictures=False)
    sets = [{m.name: np.zeros(m.shape, np.float32) for m in engine.modalities if not m.is_image}] * 3
    for judged in without_pictures.run(unlinked(sets, sets)):
        assert np.isnan(judged.from_set).tolist() == [True, True, False, False]


def test_an_empty_set_gives_the_prior(engine: Engine, inference: BatchInference) -> None:
    (judged,) = inference.run(unlinked([{}], [{}]))
    assert judged.held == () and not judged.mean.any() and not judged.log_variance.any()
    assert not judged.errors and np.isnan(judged.from_set).all()
    assert not judged.without


def test_of_more_than_six_modalities_a_set_is_judged_by_itself_all_but_one_single_ones_and_without_cameras() -> None:
    eyes = [
        Modality(name=n, source=n, preprocessing=RGB(size=32), network="image", likelihood="bernoulli") for n in "ab"
    ]
    vectors = [
        Modality(name=n, source=n, preprocessing=Vector(size=2), network="vector", likelihood="normal")
        for n in "cdefgh"
    ]
    names = tuple("abcdefgh")
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="compact", latent=4, modalities=[*eyes, *vectors])).eval()
    mean = {m.name: np.zeros(m.shape, np.float32) for m in model.modalities.values()}
    inference = BatchInference(model, mean, torch.device("cpu"), pictures=False)
    random = np.random.default_rng(0)
    whole = {m.name: random.random(m.shape, np.float32) for m in model.modalities.values()}
    for held in (names, tuple("abcdef"), tuple("acd"), tuple("h"), ()):
        sets = {name: whole[name] for name in held}
        (judged,) = inference.run(unlinked([sets], [whole]))
        blind = tuple(name for name in held if name not in "ab")
        but_one = [tuple(other for other in held if other != name) for name in held]
        expected = dict.fromkeys([held, *but_one, *((name,) for name in held), blind])
        assert set(judged.errors) == {subset for subset in expected if subset}
        assert next(iter(judged.errors), ()) == judged.held == held
        assert judged.without.keys() == {name for name in "cdefgh" if set(held) - {name}}
        if not held:
            continue
        np.testing.assert_array_equal(judged.errors[held], judged.from_set)
        arrays = {name: torch.from_numpy(array)[None] for name, array in whole.items()}
        for subset, errors in judged.errors.items():
            with torch.inference_mode():
                z = model.posterior(arrays, subset_mask(names, [subset])).mean
                found = inference.predict(z, "c")[0]
            assert errors[names.index("c")] == pytest.approx(np.mean((found - whole["c"]) ** 2), rel=1e-4)
