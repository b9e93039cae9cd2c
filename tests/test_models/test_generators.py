"""Generators against the same layers in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmrecast.models import DAFLGenerator, ZSKTGenerator
from mmrecast.registry import MODELS

SMALL = dict(img_size=8, latent_dim=5, hidden_channels=4)


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def conv(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """Return a 3x3 convolution with a border of zeros, as a sum over the nine shifts."""
    weight, (height, width) = array(layer.weight), x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifts = ((i, j) for i in range(3) for j in range(3))
    total = sum(
        np.einsum('oc,nchw->nohw', weight[:, :, i, j], padded[:, :, i : i + height, j : j + width]) for i, j in shifts
    )
    return total + array(layer.bias)[:, None, None]


def norm(x: np.ndarray, bn: nn.BatchNorm2d, eps: float) -> np.ndarray:
    x = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + eps)
    return x if bn.weight is None else x * array(bn.weight)[:, None, None] + array(bn.bias)[:, None, None]


def leaky(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, slope * x)


def enlarged(x: np.ndarray, factor: int) -> np.ndarray:
    return x.repeat(factor, 2).repeat(factor, 3)


def drawn(module: nn.Module) -> nn.Module:
    """Return the module in float64 with scales and shifts that differ from those of a new BatchNorm."""
    torch.manual_seed(0)
    for bn in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.affine):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.uniform_(bn.bias, -0.5, 0.5)
    return module.double()


def test_dafl():
    g = drawn(MODELS.build(dict(type='DAFLGenerator', bn_eps=0.3, leaky_slope=0.1, **SMALL)))
    noise = torch.randn(3, 5, dtype=torch.float64)
    x = (array(noise) @ array(g.linear.weight).T + array(g.linear.bias)).reshape(3, 4, 2, 2)
    x = enlarged(norm(x, g.bn1, 1e-5), 2)
    first, second = g.conv_blocks1, g.conv_blocks2
    x = enlarged(leaky(norm(conv(x, first[0]), first[1], 0.3), 0.1), 2)
    x = leaky(norm(conv(x, second[0]), second[1], 0.3), 0.1)
    expected = norm(np.tanh(conv(x, second[3])), second[5], 1e-5)
    assert expected.shape == (3, 3, 8, 8) and second[5].weight is None
    np.testing.assert_allclose(array(g(noise)), expected, rtol=1e-9, atol=1e-12)


def test_zskt():
    g = drawn(ZSKTGenerator(img_size=18, latent_dim=5, hidden_channels=6, scale_factor=3, out_channels=2)).layers
    noise = torch.randn(4, 5, dtype=torch.float64)
    x = (array(noise) @ array(g[0].weight).T + array(g[0].bias)).reshape(4, 6, 2, 2)
    x = enlarged(norm(x, g[2], 1e-5), 3)
    x = enlarged(leaky(norm(conv(x, g[4]), g[5], 1e-5), 0.2), 3)
    x = leaky(norm(conv(x, g[8]), g[9], 1e-5), 0.2)
    expected = norm(conv(x, g[11]), g[12], 1e-5)
    assert expected.shape == (4, 2, 18, 18)
    np.testing.assert_allclose(array(g(noise)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('kind', [DAFLGenerator, ZSKTGenerator])
def test_noise_is_drawn_where_none_is_given(kind):
    generator = kind(**SMALL).eval()
    torch.manual_seed(3)
    found = generator(batch_size=2)
    torch.manual_seed(3)
    assert torch.equal(found, generator(torch.randn(2, 5))) and found.shape == (2, 3, 8, 8)


@pytest.mark.parametrize('kind', [DAFLGenerator, ZSKTGenerator])
def test_wrong_arguments_and_noise(kind):
    name = kind.__name__
    with pytest.raises(ValueError, match=rf'{name}: img_size must be a multiple of scale_factor \*\* 2 = 4, got 30'):
        kind(30, 5, 4)
    with pytest.raises(ValueError, match=f'{name}: hidden_channels must be a whole number of at least 2, got 1'):
        kind(8, 5, 1)
    with pytest.raises(ValueError, match='latent_dim must be a whole number of at least 1, got 0'):
        kind(8, 0, 4)
    generator = kind(**SMALL)
    with pytest.raises(ValueError, match=rf'{name}: noise \(N, 5\) expected, got \(2, 6\)'):
        generator(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r'noise \(N, 5\) expected, got \(2, 5, 1, 1\)'):
        generator(torch.zeros(2, 5, 1, 1))
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        generator(batch_size=0)
