import pytest
import torch

from mmrecast.blocks import SourceInfo, TargetBlock
from mmrecast.registry import BLOCKS

SIZES = [('in_channels', 0), ('out_channels', -1), ('stride', 0), ('out_channels', 1.5), ('stride', True)]
OWN = [n for n in BLOCKS.module_dict if BLOCKS.get(n).__module__.startswith('mmrecast.')]
KEEPING = ('Skip',)  # width and size
RESIZING = [n for n in OWN if n not in ('DenseBlock', *KEEPING)]  # its input is part of its output; tests of its own
ENDING_WITH_RELU = [n for n in RESIZING if n not in ('PreActBasicBlock', 'StackedBlocks')]


def test_a_plain_target_keeps_the_width_and_cannot_be_solved():
    source = SourceInfo('bottleneck', 64, 256, 1, mid_channels=64)
    assert TargetBlock.preferred_width(source) == 256
    assert TargetBlock().solvable() is None
    assert TargetBlock.replaces == ()


def test_what_is_known_of_a_source_cannot_be_changed():
    with pytest.raises(AttributeError, match='cannot assign'):
        SourceInfo('basic', 16, 16, 1).stride = 2


def test_own_blocks_are_registered():
    assert {
        'ConvBlock',
        'BasicBlock',
        'Bottleneck',
        'DenseBlock',
        'DepthwiseSeparable',
        'PreActBasicBlock',
        'Skip',
    } <= set(OWN)


@pytest.mark.parametrize('name', RESIZING)
def test_every_block_changes_channels_and_size_as_asked(name):
    block = BLOCKS.build(dict(type=name, in_channels=4, out_channels=8, stride=2))
    assert block(torch.randn(2, 4, 9, 9)).shape == (2, 8, 5, 5)


@pytest.mark.parametrize('name', OWN)
def test_every_block_leaves_its_input_and_its_output_alone(name):
    growth = dict(growth_rate=2) if name == 'DenseBlock' else {}
    width = 4 if name in KEEPING else 8
    block = BLOCKS.build(dict(type=name, in_channels=4, out_channels=width, **growth))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    before = x.clone()
    kept = []
    block.register_forward_hook(lambda module, args, out: kept.append((out, out.clone())))
    block(x).sum().backward()
    assert torch.equal(x, before)
    assert torch.equal(*kept[0])


@pytest.mark.parametrize('name', ENDING_WITH_RELU)
def test_what_enters_the_last_relu_can_be_kept(name):
    block = BLOCKS.build(dict(type=name, in_channels=4, out_channels=4))
    kept = []
    block.relu.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    out = block(torch.randn(2, 4, 6, 6))
    assert kept[0].min() < 0
    assert torch.equal(out, kept[0].clamp(min=0))


@pytest.mark.parametrize('name', OWN)
@pytest.mark.parametrize(('key', 'value'), SIZES)
def test_bad_sizes_are_refused(name, key, value):
    cfg = dict(type=name, in_channels=4, out_channels=8, stride=1) | {key: value}
    with pytest.raises(ValueError, match=f'{name}: {key} must be a positive integer, got {value}'):
        BLOCKS.build(cfg)
