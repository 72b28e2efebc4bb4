"""Sums of the bound and its parts over the steps of an epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from smvae_core.training.objective import Bound


@dataclass
class Totals:
    """Sums over the steps of an epoch, on the device, in float64.

    Attributes:
        log_p: of log p(x_m | z), by the size of the subset and the modality, (M + 1, M).
        count: how many values `log_p` sums, (M + 1, M).
        terms: loss, KL and number of samples, (3,).
    """

    log_p: Tensor
    count: Tensor
    terms: Tensor

    @classmethod
    def zero(cls, modalities: int, device: torch.device) -> "Totals":
        """Return totals of zero, before the first step."""
        shape = (modalities + 1, modalities)
        return cls(*(torch.zeros(s, dtype=torch.float64, device=device) for s in (shape, shape, (3,))))

    def add(self, bound: Bound, subsets: Tensor) -> None:
        """Add one step, whose posteriors saw `subsets` (T, B, M)."""
        sizes = subsets.sum(dim=2).flatten().to(self.log_p.device, non_blocking=True)
        # A product, since a GPU adds by index in no fixed order.
        of_size = (sizes == torch.arange(len(self.log_p), device=sizes.device)[:, None]).double()
        self.log_p += of_size @ bound.rows.flatten(0, 1).double()
        self.count += of_size @ bound.scored.flatten(0, 1).double()
        # No number of Python goes into a tensor here: a GPU would be waited for.
        self.terms += (
            torch.stack([bound.loss.detach(), bound.kl, torch.ones_like(bound.kl)]).double() * subsets.shape[1]
        )

    def clear(self) -> None:
        """Forget all steps; the tensors stay in place."""
        for tensor in self.tensors().values():
            tensor.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to save, by name."""
        return {"totals.log_p": self.log_p, "totals.count": self.count, "totals.terms": self.terms}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
