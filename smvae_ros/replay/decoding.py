"""One sense predicted from latents, and how far it is from what was recorded, in as few passes over memory as it takes.

Images are decoded to their phases (`smvae_core.architecture.phases`) and compared as they are: errors do not ask where a
pixel lies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smvae_core.architecture.phases import PhaseDecoder, clear_border, from_phases, has_phases, to_phases
from smvae_core.likelihood import expectation
from smvae_core.model import MultimodalVAE


class SenseDecoder:
    """z to E[x_m | z] of one modality.

    What it gives may be laid out in another way than the model's own arrays: `restored` gives those.

    Args:
        model: in evaluation mode, on its device.
    """

    def __init__(self, model: MultimodalVAE, name: str) -> None:
        self._model, self._name = model, name
        self._modality = model.modalities[name]
        # A categorical modality's softmax runs over neighbouring entries, so that it must have them beside each other.
        apart = self._modality.likelihood != "categorical" and has_phases(model.decoders[name])
        self._phases = PhaseDecoder(model.decoders[name]) if apart else None
        self._entries = math.prod(self._modality.shape)

    def decode(self, z: Tensor) -> Tensor:
        """E[x_m | z] of z (B, L), laid out in its own way."""
        if self._phases is None:
            return self._model.predict(z, [self._name])[self._name]
        return clear_border(expectation(self._modality, self._phases(z)))

    def laid_out(self, x: Tensor) -> Tensor:
        """Arrays (B, *shape) as `decode` gives them."""
        return x if self._phases is None else to_phases(x)

    def restored(self, x: Tensor) -> Tensor:
        """What `decode` gives as (B, *shape)."""
        return x if self._phases is None else from_phases(x)

    def errors(self, x: Tensor, truths: Tensor, owner: Tensor) -> Tensor:
        """Mean squared errors (B,) of what `decode` gave, which is lost.

        Args:
            truths: laid out as it is.
            owner: of each row, its truth: ascending numbers on the processor, (B,).
        """
        numbers, counts = torch.unique_consecutive(owner, return_counts=True)
        for number, rows in zip(numbers.tolist(), x.split(counts.tolist())):
            rows -= truths[number]
        return torch.linalg.vector_norm(x.flatten(1), dim=1).square_() / self._entries
