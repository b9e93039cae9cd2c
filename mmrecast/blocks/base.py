"""What a target block is, and what surgery knows of the block it replaces."""

from dataclasses import dataclass

from torch import nn

from mmrecast.blocks.solvable import Solvable

__all__ = ['SourceInfo', 'TargetBlock', 'check_odd', 'check_positive']


@dataclass(frozen=True)
class SourceInfo:
    """What surgery knows of a source block.

    Args:
        kind (str): ``'basic'``, ``'bottleneck'``, ``'conv'``, ``'depthwise_separable'``, ``'dense'`` or
            ``'module'``.
        in_channels (int): Channels of its input.
        out_channels (int): Channels of its output.
        stride (int): Input height over output height.
        mid_channels (int | None): Width of a bottleneck's 3x3 or of a basic block's inner convolution.
        kernel_size (int | None): Of a source that is one convolution with a square kernel.
        padding (int | None): Likewise.
    """

    kind: str
    in_channels: int
    out_channels: int
    stride: int
    mid_channels: int | None = None
    kernel_size: int | None = None
    padding: int | None = None


class TargetBlock(nn.Module):
    """Base class of target blocks: modules from one map (N, C, H, W) to one map (N, C', H', W').

    A subclass is built from ``in_channels, out_channels, stride`` and arguments of its own, and registered in
    ``BLOCKS``. Nothing inside a block may modify the tensor it returns, since that tensor is compared with
    the teacher's.

    Example:
        >>> @BLOCKS.register_module()
        ... class Pointwise(TargetBlock):
        ...     replaces = ('conv', 'basic')
        ...     def __init__(self, in_channels, out_channels, stride=1):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(in_channels, out_channels, 1, stride)
        ...     def forward(self, x):
        ...         return self.conv(x).relu()
    """

    replaces: tuple[str, ...] = ()
    """Kinds of source (``SourceInfo.kind``) the block can replace; empty means any."""

    @classmethod
    def preferred_width(cls, source: SourceInfo) -> int:
        """Return the output channels the block takes in place of ``source`` when the recipe names none."""
        return source.out_channels

    @classmethod
    def arguments(cls, source: SourceInfo) -> dict:
        """Return arguments of the block that ``source`` decides where the recipe names none of them."""
        return {}

    def solvable(self) -> Solvable | tuple[nn.Conv2d, nn.BatchNorm2d] | None:
        """Return which layers least squares can solve for, None where it cannot.

        A pair ``(conv, norm)`` stands for a block that is exactly ``ReLU(norm(conv(x)))``.
        """
        return None


def check_positive(block: nn.Module, **sizes: int) -> None:
    """Refuse sizes that are no positive integers.

    Raises:
        ValueError: A size is not an integer of at least 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f'{type(block).__name__}: {name} must be a positive integer, got {size!r}')


def check_odd(block: nn.Module, kernel_size: int) -> None:
    """Refuse kernels without a centre, for which no padding keeps the size of the map.

    Raises:
        ValueError: ``kernel_size`` is not a positive odd integer.
    """
    check_positive(block, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f'{type(block).__name__}: kernel_size must be odd, got {kernel_size}')
