"""DenseNets for 32x32 images."""

import math

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.blocks import DenseBlock
from mmrecast.registry import MODELS

__all__ = ['CifarDenseNet']


@MODELS.register_module()
class CifarDenseNet(BaseModule):
    """The CIFAR DenseNets of Huang et al. (2017): a 3x3 stem, three dense blocks, transitions between them, BN, ReLU.

    Args:
        depth (int): 6n+4 with bottlenecks (DenseNet-BC-40, -100, -190), 3n+4 without (40, 100). Defaults to 100.
        growth_rate (int): Channels each layer adds. Defaults to 12.
        bottleneck (int): Width of the 1x1 convolutions over the growth rate; 0 for DenseNets without. Defaults to 4.
        reduction (float): What a transition keeps of the channels, rounded down. Defaults to 0.5.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict] | None): mmengine's initialisation. Defaults to None: PyTorch's own.

    Raises:
        ValueError: The depth does not fit, the reduction is not in (0, 1], or another argument is not positive.
    """

    def __init__(
        self,
        depth: int = 100,
        growth_rate: int = 12,
        bottleneck: int = 4,
        reduction: float = 0.5,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        per_layer = 6 if bottleneck else 3
        if not isinstance(depth, int) or depth < per_layer + 4 or (depth - 4) % per_layer:
            kind = 'with' if bottleneck else 'without'
            raise ValueError(f'CifarDenseNet: depth must be {per_layer}n+4 {kind} bottlenecks, got {depth!r}')
        if not 0 < reduction <= 1:
            raise ValueError(f'CifarDenseNet: reduction must be in (0, 1], got {reduction!r}')
        if not all(isinstance(n, int) and n > 0 for n in (growth_rate, in_channels)):
            raise ValueError(
                f'CifarDenseNet: positive growth_rate and in_channels expected, got {growth_rate!r} and {in_channels!r}'
            )
        channels = 2 * growth_rate if bottleneck else 16
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        added = (depth - 4) // per_layer * growth_rate
        for index in (1, 2, 3):
            block = DenseBlock(channels, channels + added, growth_rate=growth_rate, bottleneck=bottleneck)
            setattr(self, f'block{index}', block)
            channels += added
            if index < 3:
                kept = math.floor(channels * reduction)
                setattr(self, f'transition{index}', _transition(channels, kept))
                channels = kept
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images (N, C, H, W) to a tuple with the last block's activated map (N, C', H/4, W/4)."""
        x = self.transition1(self.block1(self.conv1(x)))
        x = self.block3(self.transition2(self.block2(x)))
        return (self.relu(self.bn(x)),)


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), conv, nn.AvgPool2d(2))
