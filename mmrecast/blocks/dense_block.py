"""The dense block of DenseNets: a whole stage of densely connected layers."""

import torch
from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.registry import BLOCKS

__all__ = ['DenseBlock']


class DenseLayer(nn.Module):
    """BN, ReLU, 3x3 convolution; with ``bottleneck`` b a 1x1 convolution to b times the growth rate comes first."""

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: int) -> None:
        super().__init__()
        mid = bottleneck * growth_rate
        layers = [nn.BatchNorm2d(in_channels), nn.ReLU()]
        if bottleneck:
            layers += [nn.Conv2d(in_channels, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(mid or in_channels, growth_rate, 3, 1, 1, bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, growth rate, H, W)."""
        return self.layers(x)


@BLOCKS.register_module()
class DenseBlock(TargetBlock):
    """Layers that each read the input and all earlier layers' outputs (Huang et al. 2017); its output is all of them.

    In place of another dense block it has the layers that ``growth_rate`` leaves room for, so that fewer and wider
    layers keep the block's width.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output: ``in_channels`` and a multiple of ``growth_rate``.
        stride (int): 1, since the input is part of the output. Defaults to 1.
        growth_rate (int): Channels each layer adds. Defaults to 12.
        bottleneck (int): Width of the 1x1 convolutions over the growth rate; 0 for layers without. Defaults to 4.

    Raises:
        ValueError: A size is not positive, the stride is not 1, or no number of layers gives ``out_channels``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, growth_rate: int = 12, bottleneck: int = 4
    ) -> None:
        super().__init__()
        sizes = dict(in_channels=in_channels, out_channels=out_channels, stride=stride, growth_rate=growth_rate)
        check_positive(self, **sizes)
        if stride != 1:
            raise ValueError(f'DenseBlock: its input is part of its output, so the stride must be 1, got {stride!r}')
        if isinstance(bottleneck, bool) or not isinstance(bottleneck, int) or bottleneck < 0:
            raise ValueError(f'DenseBlock: bottleneck must be a whole number of at least 0, got {bottleneck!r}')
        added = out_channels - in_channels
        if added < growth_rate or added % growth_rate:
            raise ValueError(
                f'DenseBlock: no layers of growth rate {growth_rate} turn {in_channels} channels into {out_channels}'
            )
        self.layers = nn.ModuleList(
            DenseLayer(width, growth_rate, bottleneck) for width in range(in_channels, out_channels, growth_rate)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x
