"""The bottleneck residual block of ResNet-50 and of the CIFAR ResNets of depth 9n+2."""

from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.blocks.shortcut import build_shortcut, weighted_shortcut
from mmrecast.blocks.solvable import Solvable
from mmrecast.registry import BLOCKS

__all__ = ['Bottleneck']


@BLOCKS.register_module()
class Bottleneck(TargetBlock):
    """1x1, 3x3 (which carries the stride) and 1x1 convolutions with BN, a shortcut, and a ReLU after the sum.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the 3x3 convolution and of the shortcut. Defaults to 1.
        mid_channels (int | None): Channels of the 3x3 convolution. Defaults to a quarter of ``out_channels``.
        shortcut (str): Where channels or size change: ``'projection'`` (1x1 convolution and BN, option B)
            or ``'pad'`` (zeros, option A). Defaults to ``'projection'``.

    Raises:
        ValueError: A size is not positive, or ``shortcut`` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        mid_channels: int | None = None,
        shortcut: str = 'projection',
    ) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride)
        mid = out_channels // 4 if mid_channels is None else mid_channels
        check_positive(self, mid_channels=mid)
        self.conv1 = nn.Conv2d(in_channels, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(mid, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = build_shortcut(shortcut, in_channels, out_channels, stride)
        self.relu = nn.ReLU()  # not in place: what goes into the last ReLU can be kept, too

    def solvable(self) -> Solvable:
        """Return the last convolution and the projection; the two others are hidden."""
        terms, skip = weighted_shortcut(self.shortcut)
        return Solvable(((self.conv3, self.bn3), *terms), ((self.conv1, self.bn1), (self.conv2, self.bn2)), skip)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.shortcut(x))
