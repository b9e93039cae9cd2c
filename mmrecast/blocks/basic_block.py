"""The basic residual block of ResNet-18/34 and of the CIFAR ResNets."""

from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.blocks.shortcut import build_shortcut, weighted_shortcut
from mmrecast.blocks.solvable import Solvable
from mmrecast.registry import BLOCKS

__all__ = ['BasicBlock']


@BLOCKS.register_module()
class BasicBlock(TargetBlock):
    """Two 3x3 convolutions with BN, a shortcut, and a ReLU after the sum (He et al. 2016).

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution and of the shortcut. Defaults to 1.
        mid_channels (int | None): Channels between the convolutions. Defaults to ``out_channels``.
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
        mid = out_channels if mid_channels is None else mid_channels
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride, mid_channels=mid)
        self.conv1 = nn.Conv2d(in_channels, mid, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(mid, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = build_shortcut(shortcut, in_channels, out_channels, stride)
        self.relu = nn.ReLU()  # not in place: what goes into the last ReLU can be kept, too

    def solvable(self) -> Solvable:
        """Return the second convolution and the projection; the first convolution is hidden."""
        terms, skip = weighted_shortcut(self.shortcut)
        return Solvable(((self.conv2, self.bn2), *terms), ((self.conv1, self.bn1),), skip)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.shortcut(x))
