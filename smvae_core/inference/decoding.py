"""Decoding of one modality from latents, with few operations and few passes over memory.

Images are decoded to their phases (`smvae_core.inference.phases`) and compared in that layout: neither likelihoods nor
errors depend on where a pixel lies.
"""

import torch
from torch import Tensor

from smvae_core.inference.phases import PhaseDecoder, clear_border, from_phases, has_phases, to_phases
from smvae_core.model.likelihood import expectation, log_likelihood, log_likelihood_of_pairs
from smvae_core.model.vae import MultimodalVAE


class ModalityDecoder:
    """The decoder z to p(x_m | z) of one modality, with a copy of the weights.

    Its arrays may have another layout than the model's: `laid_out` converts to it, `restored` converts back.

    Args:
        model: in evaluation mode, on its device.
        name: of the modality.
        phases: whether images may be laid out as phases, which is faster on a processor.
    """

    def __init__(self, model: MultimodalVAE, name: str, phases: bool = True) -> None:
        self._model, self._name = model, name
        self._modality = model.modalities[name]
        # The softmax of a categorical modality runs over neighbouring entries, which phases would part.
        decoder = model.decoders[name]
        apart = phases and self._modality.likelihood != "categorical"
        self._phases = PhaseDecoder(decoder) if apart and has_phases(decoder) else None
        # The border, which only phases have, is 0 with a parameter of 0. `_of_border` is the log p that it adds.
        zero = torch.zeros(1, *self._modality.shape)
        more = self.laid_out(zero).numel() - zero.numel()
        self._of_border = float(log_likelihood(self._modality, zero, zero)) * more / zero.numel()

    def parameters(self, z: Tensor) -> Tensor:
        """Return the parameters of the likelihood, from z (B, L), in the decoder's own layout."""
        if self._phases is None:
            return self._model.decode(z, [self._name])[self._name]
        return clear_border(self._phases(z))

    def expectation(self, z: Tensor) -> Tensor:
        """Return E[x_m | z] of z (B, L), in the decoder's own layout."""
        if self._phases is None:
            return self._model.predict(z, [self._name])[self._name]
        return clear_border(expectation(self._modality, self._phases(z)))

    def laid_out(self, x: Tensor) -> Tensor:
        """Convert arrays (B, *shape) to the decoder's own layout."""
        return x if self._phases is None else to_phases(x)

    def restored(self, x: Tensor) -> Tensor:
        """Convert arrays in the decoder's own layout to (B, *shape)."""
        return x if self._phases is None else from_phases(x)

    def log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return log p(x | z) in nats, (..., B).

        Args:
            x: observations, `laid_out`.
            parameters: as `parameters` returns them, (..., B, *shape of the layout).
        """
        return log_likelihood(self._modality, x, parameters) - self._of_border

    def log_likelihood_of_pairs(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return log p(x | z) of each of N observations with each of S parameters, (S, N)."""
        return log_likelihood_of_pairs(self._modality, x, parameters) - self._of_border
