"""The page of `smvae evaluate` says in words what the figures mean."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from smvae_core.configuration import ModelConfiguration
from smvae_core.evaluation.judgement import Baselines, Judgement
from smvae_core.evaluation.report import prediction_rows
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE
from smvae_core.plots.predictions import picture_rows
from smvae_core.preprocessing import RGB
from smvae_core.scores import Evaluation, SubsetErrors


def judged(nmse: dict[tuple[str, ...], dict[str, float]], mean: dict[str, float]) -> Judgement:
    """A judgement of two samples with these errors."""
    subsets = tuple(
        SubsetErrors(
            subset=frozenset(subset),
            samples=2,
            scored=dict.fromkeys(mean, 2),
            mse={name: value * mean[name] for name, value in found.items()},
            trivial=mean,
            nmse=found,
        )
        for subset, found in nmse.items()
    )
    none = dict.fromkeys(name for name in Baselines.model_fields if name not in ("mean", "previous"))
    return Judgement(
        checkpoint="best.safetensors",
        data="logs",
        evaluation=Evaluation(samples=2, subsets=subsets),
        baselines=Baselines(mean=mean, previous={name: value / 4 for name, value in mean.items()}, **none),
        probes=(),
        robustness=(),
    )


@pytest.mark.parametrize(
    ("everything", "others", "words"),
    [
        (0.1, 0.2, "is reconstructed; the others predict it"),
        (0.1, 0.7, "is reconstructed; the others tell of it in part"),
        (0.7, 0.99, "is reconstructed in part; the others do not tell of it"),
        (38.0, 1.0, "is not even reconstructed better than by its mean; the others do not tell of it"),
    ],
)
def test_each_modality_gets_a_sentence(everything: float, others: float, words: str) -> None:
    found = judged(
        {("arm", "rgb"): {"arm": everything, "rgb": 0.3}, ("rgb",): {"arm": others}}, {"arm": 2.0, "rgb": 1.0}
    )
    assert prediction_rows(found)[0] == ("arm", f"{everything:.3g}", f"{others:.3g}", "0.25", words)


def test_a_modality_alone_and_one_that_never_changes() -> None:
    (row,) = prediction_rows(judged({("rgb",): {"rgb": 0.3}}, {"rgb": 1.0}))
    assert row[2] == "–" and row[4] == "is reconstructed; there are no others to predict it from"
    rows = prediction_rows(judged({("arm", "rgb"): {"rgb": 0.3}, ("rgb",): {}}, {"arm": 0.0, "rgb": 1.0}))
    assert rows[0] == ("arm", "–", "–", "–", "never differs from its training mean, so there is nothing to predict")


def test_a_camera_alone_is_drawn_as_seen_and_as_reconstructed() -> None:
    camera = Modality(name="wrist", source="wrist", preprocessing=RGB(size=64), network="image", likelihood="bernoulli")
    model = MultimodalVAE(ModelConfiguration(size="compact", modalities=(camera,)))
    images, available = torch.rand(6, 3, 64, 64), torch.ones(6, 1, dtype=torch.bool)
    samples = SimpleNamespace(
        available=np.ones((6, 1), bool), batch=lambda rows: ({"wrist": images[rows]}, available[rows])
    )
    rows = picture_rows(model, samples)  # type: ignore[arg-type]
    assert list(rows) == ["wrist, seen", "wrist, from everything"], "there are no others to predict it from"
