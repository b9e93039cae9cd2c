"""Target blocks: what a block of the teacher can be recast into."""

from mmrecast.blocks.base import SourceInfo, TargetBlock
from mmrecast.blocks.basic_block import BasicBlock
from mmrecast.blocks.bottleneck import Bottleneck
from mmrecast.blocks.conv_block import ConvBlock
from mmrecast.blocks.dense_block import DenseBlock
from mmrecast.blocks.depthwise_separable import DepthwiseSeparable
from mmrecast.blocks.preact_basic_block import PreActBasicBlock
from mmrecast.blocks.skip import Skip
from mmrecast.blocks.solvable import Solvable
from mmrecast.blocks.stack import StackedBlocks

__all__ = [
    'BasicBlock',
    'Bottleneck',
    'ConvBlock',
    'DenseBlock',
    'DepthwiseSeparable',
    'PreActBasicBlock',
    'Skip',
    'Solvable',
    'SourceInfo',
    'StackedBlocks',
    'TargetBlock',
]
