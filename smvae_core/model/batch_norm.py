"""Batch normalisation that bears absent modalities and several processes."""

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """Batch statistics over the rows of all processes that train together, however few of them one process has.

    torch's own SyncBatchNorm runs on GPUs only. A modality may be absent from a whole batch: no row, or one value a
    channel, which has no variance, leaves the running statistics as they are and is normalised by them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), B may be 0, to the same shape."""
        if self.training and distributed.is_initialized() and distributed.get_world_size() > 1:
            return self._over_all_processes(x)
        if self.training and x.numel() <= self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)

    def _over_all_processes(self, x: Tensor) -> Tensor:
        axes = (0, 2, 3)
        pixels = x.new_full((1,), x.numel() / self.num_features, dtype=torch.float64)
        local = torch.cat([x.sum(axes, dtype=torch.float64), x.square().sum(axes, dtype=torch.float64), pixels])
        total, square, count = all_reduce(local).split([self.num_features, self.num_features, 1])
        mean = total / count.clamp(min=1.0)
        variance = (square / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
        with torch.no_grad():
            share = self.momentum * (count > 0)
            unbiased = variance * count / (count - 1.0).clamp(min=1.0)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share.to(self.running_mean.dtype))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share.to(self.running_var.dtype))
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt().to(x.dtype)
        shift = self.bias - mean.to(x.dtype) * scale
        return x * scale[:, None, None] + shift[:, None, None]


class VectorBatchNorm(BatchNorm):
    """The same for vectors."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C), B may be 0, to the same shape."""
        return super().forward(x[..., None, None])[..., 0, 0]
