"""Batch normalisation folded into the layers before it: the same function of a trained network, in fewer operations."""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_Module = TypeVar("_Module", bound=nn.Module)


def folded(model: _Module) -> _Module:
    """Return a copy of a model, in evaluation mode, without the batch normalisation that follows a linear layer.

    A convolution or matrix product followed by `y * scale + shift` is one with other weights.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place, (layer, norm) in enumerate(zip(list(module), list(module)[1:])):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if isinstance(layer, nn.Conv2d):
                module[place] = fuse_conv_bn_eval(layer, norm)
            elif isinstance(layer, nn.Linear):
                module[place] = fuse_linear_bn_eval(layer, norm)
            else:
                continue
            module[place + 1] = nn.Identity()
    return model
