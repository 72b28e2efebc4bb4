"""One sense decoded from latents in as few operations and passes over memory as it takes.

Images are decoded to their phases (`smvae_core.inference.phases`) and compared as they are: neither likelihoods nor
errors ask where a pixel lies.
"""

import torch
from torch import Tensor

from smvae_core.inference.phases import PhaseDecoder, clear_border, from_phases, has_phases, to_phases
from smvae_core.model.likelihood import expectation, log_likelihood, log_likelihood_of_pairs
from smvae_core.model.vae import MultimodalVAE


class SenseDecoder:
    """z to p(x_m | z) of one modality, by a copy of the weights.

    What it gives may be laid out in another way than the model's own arrays: `restored` gives those.

    Args:
        model: in evaluation mode, on its device.
        phases: whether an image may be laid out so; what gains by it is a processor.
    """

    def __init__(self, model: MultimodalVAE, name: str, phases: bool = True) -> None:
        self._model, self._name = model, name
        self._modality = model.modalities[name]
        # A categorical modality's softmax runs over neighbouring entries, so that it must have them beside each other.
        apart = phases and self._modality.likelihood != "categorical" and has_phases(model.decoders[name])
        self._phases = PhaseDecoder(model.decoders[name]) if apart else None
        # Entries that only the layout has are 0, with a parameter of 0: what log p they would add.
        zero = torch.zeros(1, *self._modality.shape)
        more = self.laid_out(zero).numel() - zero.numel()
        self._of_border = float(log_likelihood(self._modality, zero, zero)) * more / zero.numel()

    def parameters(self, z: Tensor) -> Tensor:
        """Of the likelihood, from z (B, L), laid out in its own way."""
        if self._phases is None:
            return self._model.decode(z, [self._name])[self._name]
        return clear_border(self._phases(z))

    def expectation(self, z: Tensor) -> Tensor:
        """E[x_m | z] of z (B, L), laid out in its own way."""
        if self._phases is None:
            return self._model.predict(z, [self._name])[self._name]
        return clear_border(expectation(self._modality, self._phases(z)))

    def laid_out(self, x: Tensor) -> Tensor:
        """Arrays (B, *shape) as `parameters` and `expectation` give them."""
        return x if self._phases is None else to_phases(x)

    def restored(self, x: Tensor) -> Tensor:
        """What `parameters` or `expectation` gives as (B, *shape)."""
        return x if self._phases is None else from_phases(x)

    def log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log p(x | z) of observations that are `laid_out` and of what `parameters` gave, as (..., B, *its own shape).

        Returns:
            (..., B), in nats.
        """
        return log_likelihood(self._modality, x, parameters) - self._of_border

    def log_likelihood_of_pairs(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The same of N observations with each of S parameters: (S, N)."""
        return log_likelihood_of_pairs(self._modality, x, parameters) - self._of_border
