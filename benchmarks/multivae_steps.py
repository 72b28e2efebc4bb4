"""Training steps of the systems that MultiVae (Senellart et al. 2025) has too, ours and theirs in turn.

Runs in the environment of `benchmarks.peers`, which has MultiVae beside everything of ours. Both train the same compact
networks on the same batches of 100 pictures of 28×28 and labels, with Adam, in one thread, and are charged with the
processor time of their steps. Prints JSON: by system, the operations of a step of ours, of theirs and of the networks
alone, and the seconds of each in every round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import BATCH, our_step
from smvae_core.configuration import Configuration, changed
from smvae_core.data.columns import CONTACT, POSE, VALID, Chunk
from smvae_core.data.formats.protocol import Trajectory
from smvae_core.data.samples import Samples, fitted, samples_of
from smvae_core.model.vae import MultimodalVAE
from smvae_core.reproduce.experiments import EXPERIMENTS
from smvae_core.systems.registry import objective_settings

# Only the data sets and the metrics of MultiVae need these.
_UNUSED = (
    *("torchvision", "torchvision.utils", "torchvision.transforms", "torchvision.datasets"),
    *("torchvision.datasets.utils", "torchvision.models", "nltk", "nltk.tokenize", "pandas"),
    *("torchmetrics", "torchmetrics.image", "torchmetrics.image.fid"),
)
_LATENT = 64
_OBJECTIVES: dict[str, dict[str, Any]] = {
    # Theirs has no random subsets by default; ours has them for more than two modalities.
    "mvae": {"random_subsets": 0},
    "mmvae": {},
    "mopoe": {},
    "jmvae": {},
    "crmvae": {},
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=20, help="steps of each a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    samples = _samples()
    found = {}
    for system in _OBJECTIVES:
        steps = {
            "ours": our_step(samples, torch.device("cpu"), _configuration(system)),
            "theirs": _theirs(system, samples),
            "networks": _networks(system, samples),
        }
        operations = {name: _operations(step) for name, step in steps.items()}
        rounds = [
            {name: _seconds(step, arguments.each) for name, step in steps.items()} for _ in range(arguments.rounds)
        ]
        found[system] = {"operations": operations, "seconds": rounds}
    json.dump(found, sys.stdout)


def _seconds(step: Callable[[], None], each: int) -> float:
    began = time.process_time()
    for _ in range(each):
        step()
    return (time.process_time() - began) / each


def _operations(step: Callable[[], None]) -> int:
    """Return the floating-point operations of the convolutions and products of a step, after a first one."""
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def _configuration(system: str) -> Configuration:
    experiment = EXPERIMENTS["fashion-mnist"]
    modalities = [m.model_dump() for m in experiment.modalities("idx", Path())]
    return changed(
        Configuration(),
        {
            "model": {"size": "compact", "system": system, "latent": _LATENT, "modalities": modalities},
            "objective": _OBJECTIVES[system],
            "training": {"batch_size": BATCH, "epochs": 10**6},
        },
    )


def _samples(count: int = 4000) -> Samples:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        # Black and white, since the likelihood of theirs takes no grey.
        "image": 255 * random.integers(0, 2, (count, 1, 28, 28), dtype=np.uint8),
        "label": np.eye(10, dtype=np.float32)[random.integers(0, 10, count)],
        CONTACT: np.zeros(count, np.float32),
        POSE: np.zeros((count, 4), np.float32),
        VALID: np.ones((count, 2), np.float32),
    }
    path = Path("synthetic")
    modalities = _configuration("mvae").model.modalities
    chunks = {path: Chunk(0, count, frozenset())}
    samples = samples_of([Trajectory("synthetic", ((0, path),))], modalities, chunks, arrays)
    return Samples(**{**vars(samples), "modalities": fitted(samples)})


def _networks(system: str, samples: Samples) -> Callable[[], None]:
    """Return a callable that does the work of the networks in one of our steps, and nothing else."""
    torch.manual_seed(0)
    model = MultimodalVAE(_configuration(system).model.model_copy(update={"modalities": samples.modalities}))
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # missing in torch's types
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    batch, available = samples.batch(np.arange(BATCH))
    draws = model.system.draw(
        objective_settings(system, _configuration(system).objective),
        torch.as_tensor(available),
        _LATENT,
        model.names,
        torch.Generator().manual_seed(0),
    )
    z = torch.randn(BATCH, _LATENT)
    times = {name: int(draws.explains[:, column].sum()) for column, name in enumerate(model.names)}

    def step() -> None:
        embeddings = [model.embeddings[name](batch[name]).mean() for name in model.names]
        # One after the other, which is faster than in one call: see `training.objective`.
        decoded = [model.decoders[name](z.requires_grad_()).mean() for name in model.names for _ in range(times[name])]
        optimizer.zero_grad()
        torch.stack(embeddings + decoded).sum().backward()
        optimizer.step()

    return step


def _theirs(system: str, samples: Samples) -> Callable[[], None]:
    """Return a callable that takes a step as MultiVae's trainer does, from batches that lie ready in memory."""
    sys.modules |= {name: MagicMock() for name in _UNUSED}
    from multivae import models
    from multivae.data.datasets.base import DatasetOutput
    from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput
    from multivae.models.nn import BaseJointEncoder

    class Encoder(BaseEncoder):
        def __init__(self, network: nn.Module, width: int) -> None:
            super().__init__()
            self.network, self.latent_dim = network, _LATENT
            self.head = nn.Linear(width, 2 * _LATENT)

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.head(self.network(x)).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Joint(BaseJointEncoder):
        def __init__(self, networks: dict[str, nn.Module], width: int) -> None:
            super().__init__()
            self.networks, self.latent_dim = nn.ModuleDict(networks), _LATENT
            self.head = nn.Linear(len(networks) * width, 2 * _LATENT)

        def forward(self, x: dict[str, Tensor]) -> Any:
            joined = torch.cat([network(x[name]) for name, network in self.networks.items()], dim=1)
            mean, log_variance = self.head(joined).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.latent_dim = network, _LATENT

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    torch.manual_seed(0)
    networks = MultimodalVAE(_configuration(system).model.model_copy(update={"modalities": samples.modalities}))
    encoders = {name: Encoder(network, networks.width) for name, network in networks.embeddings.items()}
    decoders = {name: Decoder(network) for name, network in networks.decoders.items()}
    common: dict[str, Any] = {
        "n_modalities": 2,
        "latent_dim": _LATENT,
        "input_dims": {m.name: m.shape for m in samples.modalities},
        "decoders_dist": {"image": "bernoulli", "label": "categorical"},
    }
    if system == "mvae":
        model = models.MVAE(models.MVAEConfig(**common), encoders, decoders)
    elif system == "mmvae":
        settings = {"K": 1, "prior_and_posterior_dist": "normal", "learn_prior": False, "loss": "iwae_looser"}
        model = models.MMVAE(models.MMVAEConfig(**common, **settings), encoders, decoders)
    elif system == "mopoe":
        model = models.MoPoE(models.MoPoEConfig(**common), encoders, decoders)
    elif system == "jmvae":
        other = MultimodalVAE(networks.configuration)
        joint = Joint(dict(other.embeddings.items()), networks.width)
        model = models.JMVAE(models.JMVAEConfig(**common), encoders, decoders, joint)
    else:
        model = models.CRMVAE(models.CRMVAEConfig(**common), encoders, decoders)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = [samples.batch(np.arange(first, first + BATCH))[0] for first in range(0, 800, BATCH)]
    count = 0

    def step() -> None:
        nonlocal count
        output = model(DatasetOutput(data=batches[count % 8]), epoch=100, dataset_size=4000, batch_ratio=0.0)
        count += 1
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        float(output.loss.detach())

    return step


if __name__ == "__main__":
    main()
