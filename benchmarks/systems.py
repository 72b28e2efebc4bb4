"""A training step of each system, against a step that encodes and decodes each modality once.

Both are steps of the trainer, with its memory format and optimiser, by default at paper size with batches of 100. The
step that they are compared with has the plainest of all posteriors: the mean of the embeddings and two linear layers.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.report import RESULTS, Goal, report
from benchmarks.training import BATCH, our_step, settings, synthetic_samples, timed
from smvae_core.model.networks import SIZES
from smvae_core.systems.posterior import Posterior

_GOALS = {"smvae": 1.1, "mvae": 2.0, "mmvae": 2.5, "mopoe": 1.1, "jmvae": 1.6, "crmvae": 1.7}
_COORDINATED = "smvae as it is by default, with whole sets and subsets in each step, against once"


class MeanOfEmbeddings(nn.Module):
    """A stand-in for the set encoder."""

    def __init__(self, embedding: int, latent: int) -> None:
        super().__init__()
        self.head = nn.Linear(embedding, 2 * latent)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return a posterior, as `SetAttention.forward` does."""
        mean, log_variance = self.head(embeddings.mean(dim=1)).chunk(2, dim=1)
        return Posterior(mean, log_variance, mask.float())


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=1, help="steps of each a round")
    parser.add_argument("--size", default="paper", choices=list(SIZES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    device, samples = torch.device(arguments.device), synthetic_samples()
    of_system = {system: settings(arguments.size, system) for system in _GOALS}
    of_system[_COORDINATED] = of_system["smvae"]
    of_system["smvae"] = settings(arguments.size, subset_kl=0.0, full_kl=0.0)
    steps = {name: our_step(samples, device, chosen) for name, chosen in of_system.items()}
    once = settings(arguments.size, full_set=1.0, subset_kl=0.0, full_kl=0.0)
    mean = MeanOfEmbeddings(SIZES[arguments.size].embedding, once.model.latent)
    steps["once"] = our_step(samples, device, once, mean)
    seconds = timed(steps, device, arguments.rounds, arguments.each)
    lines = []
    for system, goal in _GOALS.items():
        ratio = seconds[system] / seconds["once"]
        measured = f"{ratio:.2f} ({BATCH / seconds[system]:.0f} samples/s)"
        lines.append(Goal(f"{system}, against once", measured, f"≤ {goal}", ratio <= goal))
    ratio = seconds[_COORDINATED] / seconds["once"]
    lines.append(Goal(_COORDINATED, f"{ratio:.2f}", "(for comparison)", True))
    report(
        f"Systems, {device.type}",
        f"python -m benchmarks.systems --device {device.type}",
        f"A step of the trainer with the {arguments.size} networks, batch {BATCH}, all four modalities there, default "
        "settings of each system, but SMVAE without coordination (the subsets of SMVAE and MoPoE are random, so they "
        "encode less than everything): "
        "its time over that of the same step with everything encoded once, the mean of the embeddings instead of "
        f"a set encoder, and everything decoded once ({BATCH / seconds['once']:.0f} samples/s). Medians of "
        f"{arguments.rounds} alternating rounds after a warm-up.",
        lines,
        arguments.results,
    )


if __name__ == "__main__":
    main()
