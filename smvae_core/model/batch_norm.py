"""Batch normalisation for absent modalities, masked batches and several processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from smvae_core.systems.posterior import at_least_single


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes that train together, however few rows one process has.

    torch's own SyncBatchNorm runs on GPUs only. A modality may be absent from a whole batch: no row, or one value per
    channel (which has no variance), leaves the running statistics unchanged and is normalised by them.
    """

    # Batch normalisation without running statistics is never built here.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    rows: Tensor | None = None
    """Set by `statistics_of`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); B may be 0."""
        if not self.training:
            return super().forward(x)
        if _processes() > 1:
            return self._over_all_processes(x)
        if self.rows is not None:
            return self._over_rows(x, self.rows)
        if x.numel() <= self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)

    def _over_all_processes(self, x: Tensor) -> Tensor:
        # Not at the top: a torch without `distributed` cannot import it.
        from torch.distributed.nn.functional import all_reduce

        axes = (0, 2, 3)
        # Squares of half precision would lose most digits, or overflow.
        wide = x.double()
        if self.rows is not None:
            wide = wide * self.rows[:, None, None, None]
        kept = wide.new_full((), len(x)) if self.rows is None else self.rows.sum(dtype=torch.float64)
        count = (kept * (x.shape[2] * x.shape[3])).view(1)
        sums: Tensor = all_reduce(torch.cat([wide.sum(axes), wide.square().sum(axes), count]))
        total, square, count = sums[: self.num_features], sums[self.num_features : -1], sums[-1:]
        mean = total / count.clamp(min=1.0)
        variance = (square / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
        return self._normalised(x, mean.float(), variance.float(), count.float())

    def _over_rows(self, x: Tensor, rows: Tensor) -> Tensor:
        axes, wide = (0, 2, 3), at_least_single(x)
        weight = rows[:, None, None, None].to(wide.dtype)
        count = (weight.sum() * (x.shape[2] * x.shape[3])).view(1)
        mean = (wide * weight).sum(axes) / count.clamp(min=1.0)
        variance = ((wide - mean[:, None, None]).square() * weight).sum(axes) / count.clamp(min=1.0)
        return self._normalised(x, mean, variance, count)

    def _normalised(self, x: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
        """Normalise by the statistics of `count` values per channel, or by the running ones where that is too few."""
        enough = count > 1.0
        with torch.no_grad():
            share = (self.momentum or 0.0) * enough.to(mean.dtype)
            unbiased = variance * count / (count - 1.0).clamp(min=1.0)
            running = self.running_mean.clone(), self.running_var.clone()
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(unbiased, share)
            self.num_batches_tracked += enough.long().squeeze()
        mean = torch.where(enough, mean, running[0])
        variance = torch.where(enough, variance, running[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        normalised: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return normalised.to(x.dtype)


class VectorBatchNorm(BatchNorm):
    """Batch normalisation of vectors, as `BatchNorm` of images."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C); B may be 0."""
        return super().forward(x[..., None, None])[..., 0, 0]


@contextmanager
def statistics_of(network: nn.Module, rows: Tensor) -> Iterator[None]:
    """Take the batch statistics inside from the rows (B,), bool, only, as if the others were not in the batch.

    So a batch keeps its shape whatever it lacks, which CUDA graphs need.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.rows = rows
    try:
        yield
    finally:
        for norm in norms:
            norm.rows = None


def _processes() -> int:
    """Return how many processes train together; some builds of torch, for Jetson, have no `distributed`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
