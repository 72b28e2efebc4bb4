"""Trust: the sequential test, p-values, and blame on a model whose truth is known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm
from torch import Tensor, nn

from smvae_core.checkpoint import load, save
from smvae_core.evaluation.trust import LEAST, evidence_of, excursions, odds_of, threshold
from smvae_core.inference.trust import LARGEST, Trust, TrustState, Verdict, log_odds, p_value
from smvae_core.model.trust import FAULTY as FAULTY_SETS
from smvae_core.model.trust import Moment, TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.smvae import SetAttention
from smvae_core.trust import TrustRecord

NAMES = ("a", "b", "c")
NOISE, FAULTY = 0.2, 3.0
TRAITS = 5


def record_of(modalities: int, hidden: int = 64) -> TrustRecord:
    quantiles = tuple(norm.ppf(np.linspace(0.0005, 0.9995, 201)).tolist())
    return TrustRecord(
        hidden=hidden,
        calibrated_on=("one",),
        samples=100,
        period=0.05,
        threshold=(12.0,) * modalities,
        surprise=((quantiles,) * modalities,) * modalities,
    )


class Exact(nn.Module):
    """The exact log-likelihoods of x_m = z + noise, z ~ N(0, 1), where one x_m may be N(0, `FAULTY`²) instead."""

    def forward(self, fusion: nn.Module, now: Moment, before: Moment, past: Moment) -> Tensor:
        rows = []
        for x, mask in zip(now.embeddings[:, :, 0].double(), now.mask):
            there = mask.nonzero()[:, 0].tolist()
            logits = [healthy(x, there)]
            for j in range(len(mask)):
                rest = [m for m in there if m != j]
                faulty = norm.logpdf(float(x[j]), scale=FAULTY) + healthy(x, rest)
                logits.append(faulty if j in there else -math.inf)
            rows.append(logits)
        return torch.tensor(rows)


def healthy(x: Tensor, there: list[int]) -> float:
    if not there:
        return 0.0
    values = x[there].numpy()
    covariance = np.ones((len(there), len(there))) + NOISE**2 * np.eye(len(there))
    square = values @ np.linalg.solve(covariance, values)
    return float(-0.5 * (square + np.linalg.slogdet(covariance)[1] + len(there) * math.log(2 * math.pi)))


def trust_of(names: tuple[str, ...] = NAMES) -> Trust:
    return Trust(nn.Identity(), Exact(), record_of(len(names)), names)  # type: ignore[arg-type]


def run(trust: Trust, values: np.ndarray, masks: np.ndarray | None = None) -> list[tuple[TrustState, Verdict]]:
    state, found = trust.start(), []
    masks = np.ones(values.shape, bool) if masks is None else masks
    for x, mask in zip(values, masks):
        state, verdict = trust.step(state, moment_of(x, mask), 0.05)
        found.append((state, verdict))
    return found


def moment_of(x: np.ndarray, mask: np.ndarray) -> Moment:
    embeddings = torch.from_numpy(x).float()[None, :, None]
    return Moment(embeddings, torch.from_numpy(mask)[None], torch.zeros(1, len(x), 0))


def stream(steps: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((steps, 1)) + NOISE * random.standard_normal((steps, 3))


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_the_faulty_modality_is_blamed_and_trusted_again(faulty: int) -> None:
    values = stream(120)
    values[40:80, faulty] = FAULTY * np.random.default_rng(1).standard_normal(40)
    found = run(trust_of(), values)
    blamed = {name for _, verdict in found for name in verdict.distrusted}
    assert blamed == {NAMES[faulty]}
    when = [step for step, (_, verdict) in enumerate(found) if verdict.distrusted]
    assert 40 < when[0] < 60 and 80 <= when[-1] < 100
    _, verdict = found[when[0]]
    begun = when[0] - verdict.faulty_for[NAMES[faulty]] / 0.05
    assert 39 <= begun <= when[0], "the estimated start lies between the real one and the alarm"
    assert verdict.trust[NAMES[faulty]] < 0.5
    assert all(value >= 0.5 for name, value in verdict.trust.items() if name != NAMES[faulty])
    assert not found[-1][1].distrusted and min(found[-1][1].trust.values()) > 0.9


def test_a_set_that_tells_nothing_does_not_acquit_a_distrusted_modality() -> None:
    told = {"faulty": np.log([1e-9, 1.0, 1e-9, 1e-9]), "nothing": np.log([1.0 - FAULTY_SETS, *[FAULTY_SETS / 3] * 3])}
    told["well"] = -told["faulty"]
    trust, state, found = trust_of(), trust_of().start(), []
    for kind in (*["faulty"] * 30, *["nothing"] * 30, *["well"] * 30):
        trust.judge = lambda *_, kind=kind: np.stack([told[kind]] * 2)  # type: ignore[misc]
        state, verdict = trust.step(state, moment_of(np.zeros(3), np.ones(3, bool)), 0.05)
        found.append(verdict.distrusted)
    assert found[29:60] == [("a",)] * 31 and found[-1] == ()
    for _ in range(60):
        trust.judge = lambda *_: np.stack([told["nothing"]] * 2)
        state, verdict = trust.step(state, moment_of(np.zeros(3), np.ones(3, bool)), 0.05)
        assert verdict.trust["a"] == 1.0, "nor does it accuse one that is trusted"


def test_two_modalities_alone_do_not_decide_and_a_third_one_does() -> None:
    values = stream(60, seed=3)
    values[20:, 1] = -values[20:, 1] + 2.0
    two = np.ones(values.shape, bool)
    two[:, 2] = False
    assert "c" not in {name for _, verdict in run(trust_of(), values, two) for name in verdict.distrusted}
    assert {name for _, verdict in run(trust_of(), values) for name in verdict.distrusted} == {"b"}


def test_a_modality_that_is_gone_is_neither_judged_nor_blamed() -> None:
    values = stream(30)
    masks = np.ones(values.shape, bool)
    masks[:, 0] = False
    values[:, 0] = 1e6
    for _, verdict in run(trust_of(), values, masks):
        assert set(verdict.trust) == set(verdict.surprise) == {"b", "c"} and not verdict.distrusted


def test_steps_depend_on_the_state_alone() -> None:
    values = stream(40)
    values[10:, 2] = 4.0
    trust = trust_of()
    once, again = run(trust, values), run(trust, values)
    assert [verdict for _, verdict in once] == [verdict for _, verdict in again]
    middle = once[19][0]
    _, verdict = trust.step(replace(middle), moment_of(values[20], np.ones(3, bool)), 0.05)
    assert verdict == once[20][1]


@given(odds=st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=40))
def test_the_sequential_test_is_the_best_start_by_brute_force(odds: list[float]) -> None:
    bounded = np.clip(odds, -LARGEST, LARGEST)
    expected = [
        max(0.0, *(float(bounded[start : end + 1].sum()) for start in range(end + 1))) for end in range(len(odds))
    ]
    np.testing.assert_allclose(evidence_of(np.array(odds)[:, None])[:, 0], expected, atol=1e-9)


@given(logits=st.lists(st.floats(-20.0, 20.0), min_size=2, max_size=5))
def test_log_odds_are_those_of_the_softmax(logits: list[float]) -> None:
    probability = np.exp(logits) / np.exp(logits).sum()
    found = log_odds(np.array(logits))
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-found)), probability[1:], rtol=1e-6)


def test_p_values_are_uniform_on_data_of_the_model() -> None:
    random = np.random.default_rng(0)

    def statistic(count: int) -> np.ndarray:
        """How far x lies from what y tells, for x = z + noise and y = z + noise: the log odds grow with it."""
        z = random.standard_normal(count)
        x, y = (z + NOISE * random.standard_normal(count) for _ in range(2))
        variance = 1.0 + NOISE**2 - 1.0 / (1.0 + NOISE**2)
        return np.abs(x - y / (1.0 + NOISE**2)) / np.sqrt(variance)

    quantiles = np.quantile(statistic(200_000), np.linspace(0.0, 1.0, 201))
    values = statistic(2000)
    found = np.array([p_value(quantiles, value) for value in values])
    assert kstest(found, "uniform").pvalue > 0.01
    np.testing.assert_allclose(found, 2.0 * norm.sf(values), atol=0.02)
    assert 0.0 < p_value(quantiles, 1e9) < 0.01


def test_the_surprise_of_sets_that_the_model_draws_is_uniform() -> None:
    drawn = torch.from_numpy(stream(1500, seed=1)).float()[:, :, None]
    healthy = Moment(drawn, torch.ones(drawn.shape[:2], dtype=torch.bool), torch.zeros(*drawn.shape[:2], 0))
    odds = log_odds(Exact()(nn.Identity(), healthy, healthy, healthy).numpy())
    quantiles = np.quantile(odds, np.linspace(0.0, 1.0, 201), axis=0).T
    record = record_of(3).model_copy(
        update={"surprise": tuple((tuple(own),) * 3 for own in quantiles.tolist()), "threshold": (1e9,) * 3}
    )
    found = run(Trust(nn.Identity(), Exact(), record, NAMES), stream(500, seed=2))  # type: ignore[arg-type]
    for name in NAMES:
        values = [verdict.surprise[name] for _, verdict in found]
        assert kstest(values, "uniform").pvalue > 0.01, name


def test_the_threshold_is_the_tail_of_the_excursions() -> None:
    peaks = np.random.default_rng(0).exponential(2.0, 4000) + 1.0
    # One peak a second: 36,000 in ten hours.
    assert threshold(peaks, 4000.0) == pytest.approx(1.0 + 2.0 * math.log(36_000), rel=0.1)
    assert threshold(np.array([0.1, 0.2]), 1e9) == LEAST and threshold(np.zeros(0), 1.0) == LEAST
    assert threshold(np.array([50.0, 1.0]), 1e9) >= 60.0
    assert excursions(np.array([-1.0, 2.0, 1.0, -3.0, 0.5, -3.0])).tolist() == [3.0, 0.5]


@pytest.fixture
def network(model: MultimodalVAE) -> TrustNetwork:
    torch.manual_seed(0)
    return TrustNetwork(4, model.width, model.configuration.latent, hidden=8, traits=TRAITS).eval()


def test_a_modality_explains_nothing_under_the_hypothesis_that_it_is_faulty(network: TrustNetwork) -> None:
    fusion = SetAttention(32, 64, 4)
    generator = torch.Generator().manual_seed(0)
    now, before, past = (torch.randn(5, 4, 32, generator=generator) for _ in range(3))
    mask = torch.ones(5, 4, dtype=torch.bool)
    for head in network.alone:
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
    moments = [Moment(x, mask, torch.randn(5, 4, TRAITS, generator=generator)) for x in (now, before, past)]
    other = [Moment(x.embeddings.clone(), mask, x.traits.clone()) for x in moments]
    for moment in other:
        moment.embeddings[:, 2] = moment.traits[:, 2] = 7.0
    with torch.no_grad():
        one, two = network(fusion, *moments), network(fusion, *other)
    torch.testing.assert_close(one[:, 3], two[:, 3])
    assert not torch.isclose(one[:, [0, 1, 2, 4]], two[:, [0, 1, 2, 4]]).any()
    mask = mask.clone()
    mask[:, 2] = False
    with torch.no_grad():
        absent = [network(fusion, *(x._replace(mask=mask) for x in moment)) for moment in (moments, other)]
    torch.testing.assert_close(absent[0], absent[1])
    assert (absent[0][:, 3] == -torch.inf).all()


def test_a_log_at_once_equals_set_by_set(model: MultimodalVAE, network: TrustNetwork) -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(2, 30, 4, model.width, generator=generator)
    mask = torch.rand(2, 30, 4, generator=generator) < 0.7
    streams = Moment(embeddings, mask, torch.randn(2, 30, 4, TRAITS, generator=generator))
    at_once = odds_of(model.fusion, network, streams)
    record = record_of(4).model_copy(update={"threshold": (1e9,) * 4})
    trust = Trust(model.fusion, network, record, model.names)
    for stream, odds in enumerate(at_once):
        state, evidence = trust.start(), []
        for step in range(30):
            state, _ = trust.step(state, Moment(*(x[stream, step][None] for x in streams)), 0.05)
            evidence.append(state.evidence)
        np.testing.assert_allclose(np.stack(evidence), evidence_of(odds), atol=1e-4)
        half = evidence_of(odds[:15])[-1]
        np.testing.assert_allclose(evidence_of(odds[15:], half), evidence_of(odds)[15:], atol=1e-9)


def test_one_channel_that_stops_shows_while_the_others_go_on(model: MultimodalVAE, network: TrustNetwork) -> None:
    generator = torch.Generator().manual_seed(0)
    healthy = torch.randn(200, 4, TRAITS, generator=generator)
    changes = healthy[1:] - healthy[:-1]
    embeddings, means = torch.randn(200, 4, model.width), torch.randn(200, model.configuration.latent)
    network.standardise(embeddings, embeddings, means, healthy[1:], changes)
    stopped = changes[:1].clone()
    stopped[0, 0, 2] = 0.0
    usual, still = (network.stillness(x / network.trait_scale) for x in (changes, stopped))
    assert still[0, 0, 2] < usual[..., 2].min() - 1.0
    assert torch.equal(still[0, 0, [0, 1, 3, 4]], usual[0, 0, [0, 1, 3, 4]])


def test_a_checkpoint_whose_heads_see_no_single_trait_stand_still_judges_as_it_did(
    tmp_path: Path, model: MultimodalVAE
) -> None:
    torch.manual_seed(0)
    old = TrustNetwork(4, model.width, model.configuration.latent, 8, TRAITS, each_still=False).eval()
    path = tmp_path / "old.safetensors"
    save(path, model, {}, None, None, trust=(old, record_of(4, hidden=8).model_copy(update={"traits": TRAITS})))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["smvae"])
    assert metadata["trust"].pop("each_still") is False, "older checkpoints do not say"
    header["__metadata__"]["smvae"] = json.dumps(metadata)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])
    network = load(path).trust
    assert network is not None and not network.each_still
    mask = torch.ones(5, 4, dtype=torch.bool)
    moments = [Moment(torch.randn(5, 4, model.width), mask, torch.randn(5, 4, TRAITS)) for _ in range(3)]
    with torch.no_grad():
        expected, found = (one(model.fusion, *moments) for one in (old, network))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
