"""The importance-sampled likelihoods against a plain loop with one call of the decoders for each data point and sample.

The plain loop is what the formulas say: for each data point, 1,000 times, draw z, decode it, and weigh; log p(x),
log p(x, y) and log p(x | y) by a loop each, the last with 5,000 more samples of the prior, which it decodes to y.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import RESULTS, Goal, report
from smvae_core.evaluation.likelihoods import PRIOR_SAMPLES, SAMPLES, log_likelihoods, log_marginal
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.networks import SIZES
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.subsets import subset_mask
from smvae_core.systems.posterior import Posterior

# Each group is x in one direction, and y in the other.
_CAMERAS, _TOUCH = ("rgb", "depth"), ("force", "action")


@torch.inference_mode()
def plain_marginal(model: MultimodalVAE, batch: Batch, row: int, names: Sequence[str], samples: int) -> float:
    """Return log p of the named modalities of one data point, by importance sampling."""
    x = {name: batch[name][row : row + 1] for name in names}
    posterior = model.posterior(x, subset_mask(model.names, [tuple(names)]))
    prior = Posterior(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean), posterior.attention)
    weights = []
    for _ in range(samples):
        z = posterior.sample()
        decoded = model.decode(z, names)
        log_p = sum(log_likelihood(model.modalities[name], x[name], decoded[name]) for name in names)
        weights.append(log_p + prior.log_prob(z) - posterior.log_prob(z))
    return float(torch.cat(weights).logsumexp(dim=0)) - math.log(samples)


@torch.inference_mode()
def plain_prior(model: MultimodalVAE, batch: Batch, row: int, names: Sequence[str], samples: int) -> float:
    """Return log E_{p(z)} p of the named modalities of one data point."""
    x = {name: batch[name][row : row + 1] for name in names}
    device, values = x[names[0]].device, []
    for _ in range(samples):
        decoded = model.decode(torch.randn(1, model.configuration.latent, device=device), names)
        each = [log_likelihood(model.modalities[name], x[name], decoded[name]) for name in names]
        values.append(torch.stack(each).sum(dim=0))
    return float(torch.cat(values).logsumexp(dim=0)) - math.log(samples)


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=64, help="data points of the estimator; the plain loop has one")
    parser.add_argument("--share", type=float, default=0.1, help="of the samples that are drawn; all cost the same")
    parser.add_argument("--size", default="paper", choices=list(SIZES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    share, points, device = arguments.share, arguments.points, torch.device(arguments.device)
    samples, prior_samples = int(share * SAMPLES), int(share * PRIOR_SAMPLES)
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size=arguments.size)).to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    batch = {name: torch.rand(points, *modality.shape).to(device) for name, modality in model.modalities.items()}

    def plain_joint(row: int) -> None:
        plain_marginal(model, batch, row, model.names, samples)

    def plain_all(row: int, x: Sequence[str], y: Sequence[str]) -> None:
        plain_marginal(model, batch, row, x, samples)
        plain_joint(row)
        plain_joint(row)
        plain_prior(model, batch, row, y, prior_samples)

    def ours_all(x: Sequence[str], y: Sequence[str]) -> None:
        log_likelihoods(model, batch, x, y, samples=samples, prior_samples=prior_samples)

    seconds = _medians(
        {
            "plain joint": (plain_joint, 1),
            "joint": (lambda _: log_marginal(model, batch, model.names, samples=samples), points),
            "plain cameras": (lambda row: plain_all(row, _CAMERAS, _TOUCH), 1),
            "cameras": (lambda _: ours_all(_CAMERAS, _TOUCH), points),
            "plain touch": (lambda row: plain_all(row, _TOUCH, _CAMERAS), 1),
            "touch": (lambda _: ours_all(_TOUCH, _CAMERAS), points),
        },
        device,
        arguments.rounds,
    )
    work, rate = decoding_work(model, device), matrix_rate(device)
    at_most = {key: rate / (work * SAMPLES) * seconds[f"plain {key}"] / share for key in ("joint", "cameras")}
    lines = []
    for key, what in (
        ("joint", "log p(x, y) alone"),
        ("cameras", "log p(x), log p(x, y), log p(x | y): x the cameras, y force and action"),
        ("touch", "the same: x force and action, y the cameras"),
    ):
        ratio = seconds[f"plain {key}"] / seconds[key]
        rates = f"{share / seconds[key]:.3g} data points/s against {share / seconds[f'plain {key}']:.3g}"
        lines.append(Goal(what, f"{ratio:.1f}× ({rates})", "≥ 20×", ratio >= 20.0))
    report(
        f"Likelihood, {device.type}",
        f"python -m benchmarks.likelihood --device {device.type}",
        f"The estimator at {SAMPLES} samples a data point and {PRIOR_SAMPLES} of the prior, {arguments.size} networks, "
        f"{points} data points, against a plain loop that calls the decoders once for each data point and sample. All "
        "three: the plain loop has one loop for each quantity, with its own samples; the estimator takes all from the "
        "same, and the samples of the prior, which are decoded to y, are the same for all data points. log p(x, y) "
        f"alone: what decoding many z in one call gains by itself. {share:.0%} of the samples were drawn, since their "
        f"cost is the same. Medians of {arguments.rounds} alternating rounds after a warm-up. Decoding one z layer by "
        f"layer takes {work / 1e6:.0f} MFLOP and a large matrix product runs at {rate / 1e9:.0f} GFLOP/s here: doing "
        f"all of them at that rate would gain {at_most['joint']:.1f}× for log p(x, y) and {at_most['cameras']:.1f}× "
        "for all three with x the cameras; on a processor the estimator spares some of them.",
        lines,
        arguments.results,
    )


def decoding_work(model: MultimodalVAE, device: torch.device) -> int:
    """Floating-point operations of decoding one z to all modalities."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.decode(torch.zeros(1, model.configuration.latent, device=device), model.names)
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, side: int = 2048) -> float:
    """Floating-point operations a second of a product of two large matrices, the best of five."""
    a, b = torch.rand(2, side, side, device=device)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds[1:])


def _medians(
    measured: dict[str, tuple[Callable[[int], object], int]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Median seconds a data point, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(rounds + 1):
        for name, (measure, points) in measured.items():
            began = time.perf_counter()
            measure(number % points)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name].append((time.perf_counter() - began) / points)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
