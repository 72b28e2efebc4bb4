"""Calibration against a linear-Gaussian model, whose figures are known, and its way into evaluation and checkpoint."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from smvae_core.checkpoint import default_checkpoint, read_metadata, save
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.samples import Samples, fitted, read_samples
from smvae_core.evaluation.calibration import LEVELS, calibrate
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.subsets import all_subsets
from smvae_core.systems.posterior import Posterior

LATENT, NOISE = 3, 0.5
NAMES = ("left", "right")
MODALITIES = tuple(
    Modality(
        name=name,
        source=name,
        preprocessing=Vector(size=5, offset=(0.0,) * 5, scale=(1.0,) * 5),
        network="vector",
        likelihood="normal",
    )
    for name in NAMES
)
# z is normal; a modality is a matrix times z, and noise. The third dimension is in neither: it stays the prior.
MATRICES = {
    "left": torch.diag(torch.tensor([1.0, 0.6, 0.0])).repeat(2, 1)[:5],
    "right": torch.diag(torch.tensor([0.3, 1.5, 0.0])).repeat(2, 1)[:5],
}


class LinearGaussian:
    """The exact posterior of each subset, whose σ is `sigma` times what it should be."""

    names = NAMES
    configuration = SimpleNamespace(latent=LATENT)
    modalities = dict(zip(NAMES, MODALITIES))
    training = False

    def __init__(self, sigma: float = 1.0) -> None:
        self.sigma = sigma

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def embed(self, batch: Batch, available: torch.Tensor) -> torch.Tensor:
        return torch.stack([batch[name] for name in NAMES], dim=1)

    def fuse(self, embeddings: torch.Tensor, mask: torch.Tensor) -> Posterior:
        # All columns of a matrix are orthogonal, so the posterior is diagonal.
        weights = torch.stack([MATRICES[name].square().sum(dim=0) for name in NAMES]) / NOISE**2
        pulls = torch.stack([x @ MATRICES[name] for name, x in zip(NAMES, embeddings.unbind(1))], dim=1) / NOISE**2
        precision = 1.0 + mask.float() @ weights
        mean = (mask.float()[..., None] * pulls).sum(dim=1) / precision
        return Posterior(mean, -precision.log() + 2 * np.log(self.sigma), mask.float())

    def predict(self, z: torch.Tensor, names: Any = None) -> Batch:
        return {name: z @ MATRICES[name].T for name in NAMES}


def made_samples(count: int, trajectories: int = 4) -> Samples:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, LATENT, generator=generator)
    arrays = {n: (z @ MATRICES[n].T + NOISE * torch.randn(count, 5, generator=generator)).numpy() for n in NAMES}
    rows = np.arange(count)
    unknown = np.full((count, 4), np.nan, np.float32)
    return Samples(
        modalities=MODALITIES,
        arrays=arrays,
        rows=rows,
        following=rows,
        previous=rows - 1,
        available=np.ones((count, 2), bool),
        contact=unknown[:, 0],
        pose=unknown,
        trajectory=rows * trajectories // count,
        step=rows,
        names=tuple(f"trajectory {i}" for i in range(trajectories)),
    )


SAMPLES = made_samples(6000)


def measured(sigma: float, samples: Samples = SAMPLES, draws: int = 8) -> Any:
    return calibrate(cast(MultimodalVAE, LinearGaussian(sigma)), samples, most=None, draws=draws)


def precisions(subset: tuple[str, ...]) -> torch.Tensor:
    return 1.0 + sum(MATRICES[name].square().sum(dim=0) for name in subset) / NOISE**2


def test_the_exact_posterior_has_a_z2_of_one_and_the_known_kl() -> None:
    found = measured(1.0)
    # The third dimension tells nothing, so two are active.
    assert (found.latent, found.active, found.split, found.samples) == (3, 2, "trajectory", (3000, 3000))
    assert [row.subset for row in found.subsets] == all_subsets(NAMES)
    assert not set(found.fitted_on) & set(found.tested_on) and len(found.fitted_on) == len(found.tested_on) == 2
    for row in found.subsets:
        assert row.samples == 3000
        assert row.z2 == pytest.approx(1.0, abs=0.03)
        # The mean KL is the mutual information of z and X_S: half the logarithm of the precision.
        assert row.kl == pytest.approx(0.5 * float(precisions(row.subset).log().sum()), rel=0.03)


@pytest.mark.parametrize("sigma", [0.2, 2.0])
def test_a_sigma_that_is_wrong_by_a_factor_gives_the_known_z2(sigma: float) -> None:
    # With another σ the third dimension is active as well, and its ratio is 1.
    found, full = measured(sigma), precisions(NAMES)
    for row in found.subsets:
        own = precisions(row.subset)
        expected = ((1 / own - 1 / full + sigma**2 / full) / (sigma**2 / own)).mean()
        assert row.z2 == pytest.approx(float(expected), rel=0.03)


@pytest.mark.parametrize(("draws", "tolerance"), [(8, 0.035), (64, 0.02)])
def test_the_exact_model_covers_what_it_says_from_every_subset(draws: int, tolerance: float) -> None:
    found = measured(1.0, draws=draws)
    for row in found.subsets:
        for name in NAMES:
            assert row.coverage[name] == pytest.approx(LEVELS, abs=tolerance), (row.subset, name)
        assert found.coverage(row, 0.9)["left"] == row.coverage["left"][-1]


def test_intervals_of_a_posterior_that_is_too_sure_are_widened_by_the_known_factor() -> None:
    found = measured(1e-3)
    row, level = found.of("right"), 0.9
    # The residual is measured with everything given, and a posterior without spread adds nothing to it.
    known = MATRICES["left"].square()
    full, own = precisions(NAMES), precisions(("right",))
    # Entries of left from everything: the noise, less what seeing the entry itself explains.
    residual = NOISE**2 - (known / full).sum(dim=1)
    truth = NOISE**2 + (known / own).sum(dim=1)
    ratio = (residual / truth).sqrt().numpy()
    half_width = norm.ppf(0.5 + level / 2)
    expected = brentq(lambda factor: float((2 * norm.cdf(factor * half_width * ratio) - 1).mean()) - level, 0.1, 100.0)
    assert row.factors["left"][-1] == pytest.approx(expected, rel=0.05)
    assert found.coverage(row, level)["left"] == pytest.approx(level, abs=0.02)


def test_one_trajectory_is_split_in_time_and_entries_that_do_not_vary_are_left_out() -> None:
    samples = made_samples(200, trajectories=1)
    samples.arrays["left"][:, :4] = 3.0
    found = measured(1.0, samples)
    assert (found.split, found.samples, found.fitted_on) == ("time", (100, 100), found.tested_on)
    assert set(found.of("left").coverage) == set(NAMES)


def test_a_modality_that_is_never_there_has_no_coverage() -> None:
    samples = made_samples(200)
    samples.available[:, 0] = False
    found = measured(1.0, samples)
    assert found.of("left").samples == 0 and found.of("left").z2 is None and found.of("left").coverage == {}
    assert set(found.of("right").coverage) == {"right"}


def test_the_same_input_gives_the_same_figures(model, shared_logs) -> None:
    found = read_samples(find_trajectories(shared_logs), vision_touch_modalities())
    found = Samples(**{**vars(found), "modalities": fitted(found)})
    one, other = (calibrate(model, found, draws=2) for _ in range(2))
    assert one == other and len(one.subsets) == 15
    assert all(np.isfinite([row.kl, *np.ravel(list(row.coverage.values()))]).all() for row in one.subsets)


def test_a_checkpoint_keeps_its_calibration_and_an_older_one_has_none(model: MultimodalVAE, tmp_path: Path) -> None:
    for name, calibration in (("new", measured(1.0, made_samples(200))), ("old", None)):
        path = tmp_path / f"{name}.safetensors"
        save(path, model, {}, None, None, calibration)
        assert read_metadata(path).calibration == calibration
    assert read_metadata(default_checkpoint()).format >= 1
