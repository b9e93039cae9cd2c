"""The convolution block of Network Recasting: convolution, BN, ReLU."""

from torch import Tensor, nn

from mmrecast.blocks.base import SourceInfo, TargetBlock, check_odd, check_positive
from mmrecast.registry import BLOCKS

__all__ = ['ConvBlock']


@BLOCKS.register_module()
class ConvBlock(TargetBlock):
    """One convolution with the source block's stride, BN and ReLU (Network Recasting, AAAI 2019).

    In place of a bottleneck it takes the width of that block's 3x3 convolution, so the map becomes narrower; in place
    of a convolution, that one's kernel.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the convolution. Defaults to 1.
        kernel_size (int): Kernel size, odd where no padding is given. Defaults to 3.
        padding (int | None): Zeros on every side. Defaults to None: half the kernel, rounded down.

    Raises:
        ValueError: A size is not positive, or no padding is given for an even kernel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, kernel_size: int = 3, padding: int | None = None
    ) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride, kernel_size=kernel_size)
        if padding is None:
            check_odd(self, kernel_size)
            padding = kernel_size // 2
        elif isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise ValueError(f'ConvBlock: padding must be a whole number of at least 0, got {padding!r}')
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()  # not in place: what goes into the last ReLU can be kept, too

    @classmethod
    def preferred_width(cls, source: SourceInfo) -> int:
        """Return the width of a bottleneck's 3x3, else the source's output channels."""
        if source.kind == 'bottleneck' and source.mid_channels is not None:
            return source.mid_channels
        return source.out_channels

    @classmethod
    def arguments(cls, source: SourceInfo) -> dict:
        """Return the kernel and the padding of a source that is a convolution itself, unless they are 3 and 1."""
        if source.kind != 'conv' or source.kernel_size is None or (source.kernel_size, source.padding) == (3, 1):
            return {}
        return dict(kernel_size=source.kernel_size, padding=source.padding)

    def solvable(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """Return the convolution and its norm."""
        return self.conv, self.bn

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        return self.relu(self.bn(self.conv(x)))
