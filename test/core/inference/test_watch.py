"""The engine with trust: who is distrusted, what leaves the set, and what memory holds afterwards."""

from pathlib import Path

import numpy as np
import pytest
import torch

from smvae_core.checkpoint import Checkpoint, load, save
from smvae_core.inference.engine import Engine, Fusion
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE

from ..made_trust import picture, write_checkpoint

DARK, BRIGHT = (False,) * 5, (True,) * 10


@pytest.fixture(params=[None, MemoryConfiguration(size=8)], ids=["static", "memory"])
def with_trust(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny", memory=request.param)).eval()
    return load(write_checkpoint(tmp_path / "told.safetensors", model))


@pytest.fixture
def plain(with_trust: Checkpoint, tmp_path: Path) -> Engine:
    """The same model without trust."""
    save(tmp_path / "plain.safetensors", with_trust.model, with_trust.mean, None, None)
    return Engine.load(tmp_path / "plain.safetensors", "cpu", "eager")


def sets(pictures: tuple[bool, ...]) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {
            "rgb": picture(bright, n),
            "force": random.uniform(-0.5, 0.5, (6, 32)).astype(np.float32),
            "action": random.standard_normal(4).astype(np.float32),
        }
        for n, bright in enumerate(pictures)
    ]


def run(engine: Engine, stream: list[dict[str, np.ndarray]], drop: tuple[str, ...] | None = ()) -> list[Fusion]:
    found: list[Fusion] = []
    for arrays in stream:
        state, elapsed = (found[-1].state, 0.05) if found and found[-1].state is not None else (None, None)
        found.append(engine.infer(arrays, ["depth"], state, elapsed, drop))
    return found


def same(one: Fusion, two: Fusion) -> None:
    assert one.modalities == two.modalities
    np.testing.assert_allclose(one.mean, two.mean, atol=1e-6)
    np.testing.assert_allclose(one.log_variance, two.log_variance, atol=1e-6)
    np.testing.assert_allclose(one.predictions["depth"], two.predictions["depth"], atol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "onnx"])
def test_a_distrusted_modality_leaves_the_set_and_comes_back(with_trust: Checkpoint, backend: str) -> None:
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    engine = Engine(with_trust, "cpu", backend)  # type: ignore[arg-type]
    found = run(engine, sets((*DARK, *BRIGHT, *([False] * 15))), drop=("rgb",))
    out = [n for n, fusion in enumerate(found) if "rgb" not in fusion.modalities]
    assert out == list(range(out[0], out[-1] + 1)) and out[0] == 8 and 15 < out[-1] < 25
    for n, fusion in enumerate(found):
        assert set(fusion.trust) == {"rgb", "force", "action"}, "what left the set is judged on"
        assert fusion.verdict is not None and fusion.verdict.distrusted == (("rgb",) if n in out else ())
        assert (fusion.trust["rgb"] <= 0.5) == (n in range(8, 19)), "it is trusted again later than this"
    assert found[8].verdict is not None and found[8].verdict.faulty_for["rgb"] == pytest.approx(0.15)
    assert found[-1].trust["rgb"] == 1.0


def test_who_is_warned_of_stays_and_the_trusted_are_fused_as_without_trust(
    with_trust: Checkpoint, plain: Engine
) -> None:
    stream = sets((*DARK, *BRIGHT))
    engine = Engine(with_trust, "cpu", "eager")
    for one, two in zip(run(engine, stream), run(plain, stream)):
        same(one, two)
    assert run(engine, stream)[-1].verdict == run(engine, stream)[-1].verdict
    assert not plain.infer(stream[0]).trust


def test_who_asks_for_no_trust_gets_none_and_pays_for_none(
    with_trust: Checkpoint, plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, engine = sets((*DARK, *BRIGHT)), Engine(with_trust, "cpu", "eager")
    with monkeypatch.context() as patched:
        patched.setattr(engine.watch, "step", lambda *_: pytest.fail("trust was computed"))
        found = run(engine, stream, drop=None)
    for one, two in zip(found, run(plain, stream)):
        same(one, two)
        assert not one.trust and one.verdict is None
    # It begins anew, with the memory of the sets that were not judged.
    again = engine.infer(stream[-1], (), found[-1].state, 0.05 if found[-1].state is not None else None)
    assert again.verdict is not None and set(again.trust) == {"rgb", "force", "action"}


def test_memory_is_as_if_the_liar_had_never_been_heard(with_trust: Checkpoint, plain: Engine) -> None:
    stream = sets((*DARK, *BRIGHT))
    without = stream[: len(DARK)] + [{k: x for k, x in arrays.items() if k != "rgb"} for arrays in stream[len(DARK) :]]
    found = run(Engine(with_trust, "cpu", "eager"), stream, drop=("rgb",))
    expected = run(plain, without)
    assert found[7].modalities == ("rgb", "force", "action"), "not noticed yet"
    for one, two in zip(found[8:], expected[8:]):
        same(one, two)
        if two.state is not None and one.state is not None:
            np.testing.assert_allclose(one.state.hidden, two.state.hidden, atol=1e-6)
            assert one.state.age == two.state.age


@pytest.mark.parametrize("lacking", [(), ("force",), ("rgb", "action")])
def test_onnx_judges_as_pytorch_does(with_trust: Checkpoint, lacking: tuple[str, ...]) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    assert with_trust.trust is not None
    for parameter in with_trust.trust.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stream = [{name: x for name, x in arrays.items() if name not in lacking} for arrays in sets((*DARK, *BRIGHT))]
    eager, onnx = (run(Engine(with_trust, "cpu", backend), stream, drop=("rgb",)) for backend in ("eager", "onnx"))
    for one, two in zip(eager, onnx):
        assert one.modalities == two.modalities
        assert two.trust == pytest.approx(one.trust, abs=1e-4)
        assert one.verdict is not None and two.verdict is not None
        assert two.verdict.surprise == pytest.approx(one.verdict.surprise, abs=1e-3)


def test_trust_that_onnx_cannot_express_runs_in_pytorch_and_the_log_says_why(
    with_trust: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    network = with_trust.trust
    assert network is not None
    network.forward = lambda *moments: torch.special.bessel_j0(type(network).forward(network, *moments))  # type: ignore[method-assign]
    engine = Engine(with_trust, "cpu", "onnx")
    assert "trust runs in PyTorch" in caplog.text
    assert engine.infer(sets(DARK)[0]).trust
