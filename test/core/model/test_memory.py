"""Memory as one more member of the set: what it does with time, what it costs to be without, what it equals exactly."""

from dataclasses import dataclass

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from smvae_core import checkpoint
from smvae_core.configuration import load_configuration
from smvae_core.modality import Modality
from smvae_core.model.memory import Memory, MemoryConfiguration, MemoryState, Remembered
from smvae_core.model.vae import BatchError, ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.systems.posterior import Posterior
from smvae_core.systems.registry import SYSTEMS
from smvae_core.training.initialisation import InitialisationError, initialise

CLOSE = dict(rtol=0, atol=1e-6)
WITH_MEMORY = ("smvae", "mvae", "crmvae")
ROWS = 6
EVERYTHING = torch.ones(ROWS, 4, dtype=torch.bool)
NOTHING = torch.zeros(ROWS, 4, dtype=torch.bool)


def made(system: str = "smvae", **memory) -> MultimodalVAE:
    torch.manual_seed(0)
    settings = MemoryConfiguration(**{"size": 16, **memory})
    return MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=8, memory=settings)).eval()


def without(system: str) -> MultimodalVAE:
    torch.manual_seed(0)
    return MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=8)).eval()


def after(seconds: float, rows: int = ROWS) -> Tensor:
    return torch.full((rows,), seconds)


@pytest.fixture(params=WITH_MEMORY)
def model(request) -> MultimodalVAE:
    return made(request.param)


@pytest.fixture
def state(model, batch) -> MemoryState:
    """After one whole set."""
    with torch.no_grad():
        return model.step(batch, EVERYTHING, model.memory.start(ROWS), after(0.0))[1]


def assert_same(found: Posterior, expected: Posterior) -> None:
    for x, y in zip(found[:2], expected[:2]):
        torch.testing.assert_close(x, y, **CLOSE)


@torch.no_grad()
def test_without_a_state_the_model_is_one_without_memory(model, batch):
    alone = without(model.configuration.system)
    shared = {name: x for name, x in model.state_dict().items() if name in alone.state_dict()}
    alone.load_state_dict(shared)
    for mask in (EVERYTHING, NOTHING, torch.tensor([[True, False, False, True]] * ROWS)):
        expected = alone.posterior(batch, mask)
        assert_same(model.posterior(batch, mask), expected)
        found, _ = model.step(batch, mask, model.memory.start(ROWS), after(0.05))
        assert_same(found, expected)
        assert found.attention.shape == (ROWS, 5) and not found.attention[:, 4].any()
        torch.testing.assert_close(found.attention[:, :4], expected.attention, **CLOSE)


@torch.no_grad()
def test_the_empty_set_is_the_forecast_and_without_memory_the_prior(model, batch, state):
    forecast, _ = model.step({}, NOTHING, state, after(0.05))
    assert torch.equal(forecast.attention, torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]).expand(ROWS, -1))
    prior, still_nothing = model.step({}, NOTHING, model.memory.start(ROWS), after(0.05))
    assert not prior.mean.any() and not prior.log_variance.any() and not still_nothing.present.any()
    assert (forecast.mean - prior.mean).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("seconds", [10.5, -0.1, float("inf"), float("nan")])
def test_a_gap_beyond_the_horizon_or_time_that_goes_back_forgets(model, batch, state, seconds):
    found, following = model.step(batch, EVERYTHING, state, after(seconds))
    fresh, anew = model.step(batch, EVERYTHING, model.memory.start(ROWS), after(0.0))
    assert_same(found, fresh)
    torch.testing.assert_close(following.hidden, anew.hidden, **CLOSE)
    assert following.present.all()
    _, empty = model.step({}, NOTHING, state, after(seconds))
    assert not empty.present.any()


@torch.no_grad()
def test_time_matters_up_to_the_horizon(model, state):
    forecasts = [model.step({}, NOTHING, state, after(seconds))[0].mean for seconds in (0.0, 0.05, 1.0, 10.0)]
    for one, other in zip(forecasts, forecasts[1:]):
        assert (one - other).abs().max() > 1e-5


@torch.no_grad()
def test_rows_have_memories_of_their_own(model, batch, state):
    """Some rows remember, others forget, all in one batch: each as if it were alone."""
    elapsed = torch.tensor([0.05, 20.0, 0.1, 3.0, 0.05, 11.0])
    mask = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    found, following = model.step(batch, mask, state, elapsed)
    for row in range(ROWS):
        here = slice(row, row + 1)
        one = {name: x[here] for name, x in batch.items()}
        alone, own = model.step(one, mask[here], MemoryState(*(x[here] for x in state)), elapsed[here])
        assert_same(Posterior(*(x[here] for x in found)), alone)
        torch.testing.assert_close(following.hidden[here], own.hidden, rtol=0, atol=1e-5)
        assert torch.equal(following.present[here], own.present)


def test_several_sets_of_one_state_are_those_one_by_one(model, batch, state):
    masks = torch.stack([EVERYTHING, NOTHING, EVERYTHING & torch.tensor([True, False, True, False])])
    with torch.no_grad():
        embeddings = model.embed(batch, EVERYTHING)
        stacked = model.fuse(embeddings, masks, model.memory.recall(state, after(0.1)))
        for n, mask in enumerate(masks):
            assert_same(Posterior(*(x[n] for x in stacked)), model.step(batch, mask, state, after(0.1))[0])


def test_systems_that_cannot_remember_say_why():
    for system in set(SYSTEMS) - set(WITH_MEMORY):
        with pytest.raises(ValidationError, match=f"expected memory 'none' for system '{system}', found a memory: "):
            ModelConfiguration(system=system, memory=MemoryConfiguration())
        assert ModelConfiguration(system=system, memory="none").memory is None


def test_none_in_yaml_is_no_memory(tmp_path):
    path = tmp_path / "configuration.yaml"
    for text, expected in (
        ("model: {memory: none}", None),
        ("model: {}", None),
        ("model: {memory: {size: 8}}", MemoryConfiguration(size=8)),
    ):
        path.write_text(text)
        assert load_configuration(path).model.memory == expected


def test_a_state_that_does_not_belong_is_one_sentence(model, batch, state):
    refusals = [
        (model, MemoryState(state.hidden[:2], state.present[:2]), after(0.1), r"hidden expected floats \(6, 16\)"),
        (made(size=8), state, after(0.1), r"hidden expected floats \(6, 8\)"),
        (model, MemoryState(*(x.to("meta") for x in state)), after(0.1), "on cpu, found .* on meta"),
        (model, state, after(0.1, 1), r"elapsed expected floats \(6,\)"),
        (without("smvae"), state, after(0.1), "the model was made without"),
    ]
    for one, wrong, elapsed, message in refusals:
        with pytest.raises(BatchError, match=message) as error:
            one.step(batch, EVERYTHING, wrong, elapsed)
        assert "\n" not in str(error.value)


@torch.no_grad()
def test_a_checkpoint_keeps_memory(tmp_path, model, batch, state):
    checkpoint.save(tmp_path / "model.safetensors", model, {}, None, None)
    loaded = checkpoint.load(tmp_path / "model.safetensors").model
    assert loaded.configuration == model.configuration
    expected, following = model.step(batch, EVERYTHING, state, after(0.1))
    found, own = loaded.step(batch, EVERYTHING, state, after(0.1))
    assert torch.equal(found.mean, expected.mean) and torch.equal(own.hidden, following.hidden)


@torch.no_grad()
def test_weights_of_a_model_without_memory_start_one_with_it(tmp_path, model, batch):
    alone = without(model.configuration.system)
    for parameter in alone.parameters():
        parameter.add_(0.01)
    checkpoint.save(tmp_path / "alone.safetensors", alone, {}, None, None)
    told = initialise(model, tmp_path / "alone.safetensors")
    assert told.new == ("the memory",)
    assert_same(model.posterior(batch, EVERYTHING), alone.posterior(batch, EVERYTHING))


def test_a_foreign_checkpoint_does_not_start_a_memory(tmp_path):
    one = MultimodalVAE(ModelConfiguration(size="compact"))
    checkpoint.save(tmp_path / "compact.safetensors", one, {}, None, None)
    with pytest.raises(InitialisationError):
        initialise(made(), tmp_path / "compact.safetensors")


# A linear system with Gaussian noise, whose filter is known: z' = DECAY^(t/s) z + noise, x = z + noise of x's sensor.

DECAY, NOISE, SPACING = 0.9, 0.3, 0.05
SENSORS = {"fine": 0.2, "coarse": 1.5}
DIMENSIONS = 3


@dataclass
class Moments:
    mean: Tensor
    variance: Tensor

    def predicted(self, elapsed: Tensor) -> "Moments":
        """The stationary process with variance NOISE / (1 - DECAY²) whose correlation over a spacing is DECAY."""
        decay = (DECAY ** (elapsed / SPACING))[:, None]
        stationary = NOISE / (1.0 - DECAY**2)
        return Moments(decay * self.mean, decay**2 * self.variance + stationary * (1.0 - decay**2))


class Filter(nn.Module):
    """An exact memory: its state is the posterior of the last set, and its embedding the prediction from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.configuration = MemoryConfiguration(size=2 * DIMENSIONS)

    def start(self, rows: int) -> MemoryState:
        return MemoryState(torch.zeros(rows, 2 * DIMENSIONS), torch.zeros(rows, dtype=torch.bool))

    def recall(self, state: MemoryState, elapsed: Tensor) -> Remembered:
        mean, variance = state.hidden.chunk(2, dim=1)
        predicted = Moments(mean, variance).predicted(elapsed)
        numbers = torch.cat([predicted.mean, predicted.variance.log()], dim=1)
        return Remembered(nn.functional.pad(numbers, (0, self.width - numbers.shape[1])), state.present)

    def advance(self, state: MemoryState, elapsed: Tensor, posterior: Posterior, mask: Tensor) -> MemoryState:
        hidden = torch.cat([posterior.mean, posterior.log_variance.exp()], dim=1)
        return MemoryState(hidden, state.present | mask.any(dim=1))


class Passed(nn.Module):
    """An embedding network that hands numbers on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, self.width - x.shape[1]))


class Read(nn.Module):
    """The head of an expert: mean and log variance as the embedding has them, or a fixed log variance."""

    def __init__(self, log_variance: Tensor | None = None) -> None:
        super().__init__()
        self.log_variance = log_variance

    def forward(self, embedding: Tensor) -> Tensor:
        mean, rest = embedding[:, :DIMENSIONS], embedding[:, DIMENSIONS : 2 * DIMENSIONS]
        return torch.cat([mean, rest if self.log_variance is None else self.log_variance.expand_as(mean)], dim=1)


def linear_gaussian() -> MultimodalVAE:
    """MVAE, whose product of experts is exact, with the exact experts of the linear system."""
    modalities = tuple(
        Modality(name=n, source=n, preprocessing=Vector(size=DIMENSIONS), network="vector", likelihood="normal")
        for n in SENSORS
    )
    model = MultimodalVAE(
        ModelConfiguration(
            system="mvae", size="tiny", latent=DIMENSIONS, modalities=modalities, memory=MemoryConfiguration()
        )
    ).eval()
    model.memory = Filter(model.width)
    for name, variance in SENSORS.items():
        model.embeddings[name] = Passed(model.width)
        model.fusion.experts.heads[name] = Read(torch.tensor(variance).log())
    model.fusion.experts.memory = Read()
    return model


@torch.no_grad()
def test_with_an_exact_memory_the_model_is_the_kalman_filter():
    """Missing observations, one sensor or both, and unequal spacings, up to two seconds, included."""
    model, random = linear_gaussian(), torch.Generator().manual_seed(3)
    rows, steps = 5, 40
    present = torch.rand(steps, rows, 2, generator=random) < 0.45
    present[0, 0] = False  # a row that begins with an empty set: the prior, until something comes
    elapsed = SPACING * torch.exp(3.7 * torch.rand(steps, rows, generator=random))
    x = torch.randn(steps, 2, rows, DIMENSIONS, generator=random)

    state = model.memory.start(rows)
    belief = Moments(torch.zeros(rows, DIMENSIONS), torch.ones(rows, DIMENSIONS))
    started = torch.zeros(rows, dtype=torch.bool)
    for t in range(steps):
        found, state = model.step(dict(zip(SENSORS, x[t])), present[t], state, elapsed[t])
        predicted = belief.predicted(elapsed[t])
        mean = torch.where(started[:, None], predicted.mean, 0.0)
        variance = torch.where(started[:, None], predicted.variance, 1.0)
        for m, noise in enumerate(SENSORS.values()):
            gain = torch.where(present[t, :, m, None], variance / (variance + noise), 0.0)
            mean, variance = mean + gain * (x[t, m] - mean), (1.0 - gain) * variance
        belief, started = Moments(mean, variance), started | present[t].any(dim=1)
        torch.testing.assert_close(found.mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.log_variance.exp(), variance, rtol=1e-4, atol=1e-6)


def test_a_new_memory_keeps_its_shapes():
    memory = Memory(MemoryConfiguration(size=5), modalities=2, embedding=7, latent=3)
    state = memory.start(4)
    posterior = Posterior(torch.randn(4, 3), torch.zeros(4, 3), torch.zeros(4, 3))
    following = memory.advance(state, after(0.0, 4), posterior, torch.ones(4, 2, dtype=torch.bool))
    assert following.hidden.shape == (4, 5) and following.hidden.dtype == torch.float32
    assert memory.embed(following, after(0.1, 4)).shape == (4, 7)
    assert following.hidden.isfinite().all()
