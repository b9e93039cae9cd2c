"""Naive float64 arithmetic that the blocks are compared with."""

import numpy as np
import pytest
import torch


class Naive:
    """Convolution by loops and BN by its formula, on NumPy arrays of one image (C, H, W)."""

    @staticmethod
    def conv(x, conv):
        weight = conv.weight.detach().double().numpy()
        stride, pad, groups = conv.stride[0], conv.padding[0], conv.groups
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        k, per_group = weight.shape[2], weight.shape[0] // groups
        size = (x.shape[1] - k) // stride + 1
        out = np.zeros((weight.shape[0], size, size))
        for o in range(weight.shape[0]):
            first = o // per_group * weight.shape[1]
            for i in range(size):
                for j in range(size):
                    patch = x[
                        first : first + weight.shape[1],
                        i * stride : i * stride + k,
                        j * stride : j * stride + k,
                    ]
                    out[o, i, j] = (patch * weight[o]).sum()
        return out

    @staticmethod
    def norm(x, bn):
        mean, var, scale, shift = (
            t.detach().double().numpy()[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
        )
        return (x - mean) / np.sqrt(var + bn.eps) * scale + shift

    @staticmethod
    def relu(x):
        return np.maximum(x, 0)

    @staticmethod
    def randomised(block):
        """Give every weight and BN statistic of ``block`` a random value, in eval mode and float64."""
        generator = torch.Generator().manual_seed(0)
        block.double().eval()
        for tensor in block.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.3)
        for module in block.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.abs_().add_(0.5)
        return block

    @staticmethod
    def image(channels, size=6):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, channels, size, size, generator=generator, dtype=torch.float64)


@pytest.fixture
def naive():
    return Naive
