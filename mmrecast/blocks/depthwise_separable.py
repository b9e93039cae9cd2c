"""The depthwise-separable block of MobileNet."""

from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_odd, check_positive
from mmrecast.blocks.solvable import Solvable
from mmrecast.registry import BLOCKS

__all__ = ['DepthwiseSeparable']


@BLOCKS.register_module()
class DepthwiseSeparable(TargetBlock):
    """A depthwise convolution (with the stride) and a pointwise one, each with BN and ReLU (MobileNet, 2017).

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution. Defaults to 1.
        kernel_size (int): Odd kernel size of the depthwise convolution. Defaults to 3.

    Raises:
        ValueError: A size is not positive, or the kernel is even.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, kernel_size: int = 3) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride)
        check_odd(self, kernel_size)
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels, bias=False
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()  # not in place: what goes into the last ReLU can be kept, too

    def solvable(self) -> Solvable:
        """Return the pointwise convolution; the depthwise one is hidden."""
        return Solvable(((self.pointwise, self.bn2),), ((self.depthwise, self.bn1),))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        out = self.relu1(self.bn1(self.depthwise(x)))
        return self.relu(self.bn2(self.pointwise(out)))
