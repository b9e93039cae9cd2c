"""Several blocks of one type in a row: what a whole stage of a network is recast into."""

from collections.abc import Mapping

from torch import nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.registry import BLOCKS
from mmrecast.utils.names import nearest

__all__ = ['StackedBlocks']

_OWN = ('in_channels', 'out_channels', 'stride')


@BLOCKS.register_module()
class StackedBlocks(TargetBlock, nn.Sequential):
    """``depth`` blocks of one type in a row, named ``0``, ``1``, …; the first has the stride and changes the width.

    In place of a ResNet's stage (``backbone.layer1``, an ``nn.Sequential``) it leaves a shallower ResNet, whose
    ``state_dict`` has the names of one that was built so.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first block. Defaults to 1.
        block (dict): Config of a registered block, without the three above. Defaults to ``BasicBlock``.
        depth (int): Number of blocks. Defaults to 1.

    Raises:
        ValueError: A size is not positive, or ``block`` sets what the stack decides or is refused by its class.
        TypeError: ``block`` is no config.
        KeyError: The block is not registered.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        block: Mapping = dict(type='BasicBlock'),
        depth: int = 1,
    ) -> None:
        nn.Module.__init__(self)
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride, depth=depth)
        if not isinstance(block, Mapping) or not isinstance(block.get('type'), str):
            raise TypeError(f"StackedBlocks: block must be a config such as dict(type='BasicBlock'), got {block!r}")
        name = block['type'].removeprefix('mmrecast.')
        if name not in BLOCKS.module_dict:  # the registry would import what a dotted name stands for
            raise KeyError(f'{name!r} is not registered in mmrecast.block{nearest(name, BLOCKS.module_dict)}')
        taken = [name for name in _OWN if name in block]
        if taken:
            raise ValueError(f'StackedBlocks: {taken[0]} of each block follows from that of the stack: leave it out')
        blocks = [dict(block, in_channels=in_channels, out_channels=out_channels, stride=stride)]
        blocks += [dict(block, in_channels=out_channels, out_channels=out_channels, stride=1)] * (depth - 1)
        nn.Sequential.__init__(self, *map(BLOCKS.build, blocks))
