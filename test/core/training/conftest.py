"""Trainings in the process of the tests draw no pictures; those of `smvae train` do, and are looked at."""

import pytest


@pytest.fixture(autouse=True)
def card_without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write model cards without drawing their pictures, which takes as long as a training on little."""
    for name in ("curves", "picture_sheet", "reliability", "subset_table"):
        monkeypatch.setattr(f"smvae_core.training.model_card.{name}", lambda *_, **__: None)
