"""Batch normalisation for absent modalities and several processes."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as distributed_functional
from torch.nn import functional as F

# torch annotates no types here.
_all_reduce: Callable[[Tensor], Tensor] = distributed_functional.all_reduce


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes that train together, however few rows one process has.

    torch's own SyncBatchNorm runs on GPUs only. A modality may be absent from a whole batch: no row, or one value per
    channel (which has no variance), leaves the running statistics unchanged and is normalised by them.
    """

    # Batch normalisation without running statistics is never built here.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); B may be 0."""
        if self.training and distributed.is_initialized() and distributed.get_world_size() > 1:
            return self._over_all_processes(x)
        if self.training and x.numel() <= self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)

    def _over_all_processes(self, x: Tensor) -> Tensor:
        axes = (0, 2, 3)
        pixels = x.new_full((1,), x.numel() / self.num_features, dtype=torch.float64)
        local = torch.cat([x.sum(axes, dtype=torch.float64), x.square().sum(axes, dtype=torch.float64), pixels])
        sums = _all_reduce(local)
        total, square, count = sums[: self.num_features], sums[self.num_features : -1], sums[-1:]
        mean = total / count.clamp(min=1.0)
        variance = (square / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
        with torch.no_grad():
            weight = (self.momentum or 0.0) * (count > 0)
            unbiased = variance * count / (count - 1.0).clamp(min=1.0)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight.to(self.running_mean.dtype))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight.to(self.running_var.dtype))
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt().to(x.dtype)
        shift = self.bias - mean.to(x.dtype) * scale
        normalised: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return normalised


class VectorBatchNorm(BatchNorm):
    """Batch normalisation of vectors, as `BatchNorm` of images."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C); B may be 0."""
        return super().forward(x[..., None, None])[..., 0, 0]
