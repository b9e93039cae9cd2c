"""Shortcuts of residual blocks (He et al. 2016, options A and B)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.blocks.solvable import Layer
from mmrecast.utils.names import nearest

__all__ = ['PadShortcut', 'build_shortcut', 'weighted_shortcut']


class PadShortcut(nn.Module):
    """He's option A: take every ``stride``-th pixel and add channels of zeros on both sides, half in front.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output, at least ``in_channels``.
        stride (int): Distance of the pixels taken. Defaults to 1.

    Raises:
        ValueError: ``out_channels`` is smaller than ``in_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        added = out_channels - in_channels
        if added < 0:
            raise ValueError(
                f"shortcut 'pad' cannot take channels away, got {in_channels} -> {out_channels}; "
                "use shortcut='projection'"
            )
        self.stride = stride
        self.front, self.back = added // 2, added - added // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ⌈H/stride⌉, ⌈W/stride⌉)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.front, self.back))

    def extra_repr(self) -> str:
        """Show the stride and the channels added."""
        return f'stride={self.stride}, front={self.front}, back={self.back}'


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


_SHORTCUTS = {'projection': _projection, 'pad': PadShortcut}


def build_shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build a residual block's shortcut: the identity where channels and size stay, else what ``kind`` names.

    Args:
        kind (str): ``'projection'`` (1x1 convolution and BN, option B) or ``'pad'`` (zeros, option A).
        in_channels (int): Channels of the block's input.
        out_channels (int): Channels of the block's output.
        stride (int): Stride of the block.

    Raises:
        ValueError: ``kind`` is unknown, or ``'pad'`` would have to take channels away.
    """
    if kind not in _SHORTCUTS:
        raise ValueError(f'unknown shortcut {kind!r}{nearest(str(kind), _SHORTCUTS)}')
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return _SHORTCUTS[kind](in_channels, out_channels, stride)


def weighted_shortcut(shortcut: nn.Module) -> tuple[tuple[Layer, ...], nn.Module | None]:
    """Return what a block's :class:`~mmrecast.blocks.solvable.Solvable` holds of its shortcut: terms and skip."""
    return ((tuple(shortcut),), None) if isinstance(shortcut, nn.Sequential) else ((), shortcut)
