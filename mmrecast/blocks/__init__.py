"""Target blocks: what a block of the teacher can be recast into."""

from mmrecast.blocks.base import SourceInfo, TargetBlock
from mmrecast.blocks.basic_block import BasicBlock
from mmrecast.blocks.bottleneck import Bottleneck
from mmrecast.blocks.conv_block import ConvBlock
from mmrecast.blocks.depthwise_separable import DepthwiseSeparable

__all__ = ['BasicBlock', 'Bottleneck', 'ConvBlock', 'DepthwiseSeparable', 'SourceInfo', 'TargetBlock']
