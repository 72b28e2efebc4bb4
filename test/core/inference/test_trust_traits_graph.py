"""The graphs of trust agree with PyTorch: for heads that see traits or not, with memory or not, whatever is there."""

import numpy as np
import pytest
import torch

from smvae_core.inference.trust import Seen, TorchJudge
from smvae_core.inference.trust_graph import TraitsGraph, TrustGraph
from smvae_core.modality import RGB, Force, Modality, Vector
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.traits import trait_count, traits_of
from smvae_core.model.trust import TrustNetwork
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("sees_traits, each_still", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("system, memory", [("smvae", True), ("smvae", False), ("mvae", False)])
def test_the_graph_judges_as_pytorch_does(sees_traits: bool, each_still: bool, system: str, memory: bool) -> None:
    torch.manual_seed(0)
    settings = MemoryConfiguration(size=8) if memory else None
    model = MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=8, memory=settings)).eval()
    count, slots = trait_count(model.configuration.modalities), 4 + memory
    network = TrustNetwork(4, model.width, 8, 8, traits=count if sees_traits else 0, each_still=each_still).eval()
    random = np.random.default_rng(0)

    def seen(n: int) -> Seen:
        embeddings = random.standard_normal((slots, model.width), np.float32)
        traits = random.standard_normal((4, count), np.float32)
        traits[:, 0] = 0.5  # stands still
        return Seen(float(n), embeddings, random.random(slots) < 0.7, traits)

    graph, eager = TrustGraph(model.fusion, network, slots, model.width, count), TorchJudge(model.fusion, network)
    sets: list[Seen | None] = [None, *map(seen, range(8))]
    for now, before, past in zip(sets[1:], sets, [None, None, *sets[1:]]):
        assert now is not None
        # The same sets come again under other columns, of which some are known by then.
        for allowed in (np.ones((1, slots), bool), random.random((3, slots)) < 0.7):
            with torch.inference_mode():
                expected = eager(now, before, past, allowed)
            np.testing.assert_allclose(graph(now, before, past, allowed), expected, rtol=0.0, atol=1e-5)


def test_the_traits_are_those_of_pytorch() -> None:
    image = {"network": "image", "likelihood": "bernoulli"}
    modalities = (
        Modality(name="rgb", source="rgb", preprocessing=RGB(size=40), **image),  # type: ignore[arg-type]
        Modality(name="odd", source="odd", preprocessing=RGB(size=42), network="flat_image", likelihood="bernoulli"),
        Modality(name="force", source="force", preprocessing=Force(), network="sequence", likelihood="normal"),
        Modality(name="action", source="action", preprocessing=Vector(size=4), network="vector", likelihood="normal"),
    )
    random = np.random.default_rng(0)
    arrays = {one.name: random.random(one.shape, np.float32) for one in modalities}
    expected = traits_of(modalities, {name: torch.from_numpy(x)[None] for name, x in arrays.items()}, rows=1)
    np.testing.assert_allclose(TraitsGraph(modalities)(arrays), expected[0], atol=1e-6)
