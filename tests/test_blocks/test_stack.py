import pytest
import torch

from mmrecast.blocks import BasicBlock, DenseBlock, PreActBasicBlock, StackedBlocks
from mmrecast.models import CifarResNet, WideResNet


def test_it_computes_its_blocks_one_after_another(naive):
    stack = naive.randomised(StackedBlocks(2, 4, stride=2, block=dict(type='PreActBasicBlock'), depth=3))
    x = naive.image(2)
    out = x
    for block, (width, stride) in zip(stack, [(2, 2), (4, 1), (4, 1)], strict=True):
        assert isinstance(block, PreActBasicBlock)
        assert (block.bn1.num_features, block.conv1.stride) == (width, (stride, stride))
        out = block(out)
    assert out.shape == (1, 4, 3, 3) and torch.equal(stack(x), out)


@pytest.mark.parametrize(
    ('stage', 'block', 'depth'),
    [
        (CifarResNet(20).layer2, dict(type='BasicBlock', shortcut='pad'), 3),
        (CifarResNet(20, shortcut='B').layer2, dict(type='BasicBlock'), 3),
        (CifarResNet(11, block='bottleneck', shortcut='B').layer2, dict(type='Bottleneck'), 1),
        (WideResNet(16, 1).layer2, dict(type='mmrecast.PreActBasicBlock'), 2),
    ],
)
def test_its_weights_have_the_names_and_shapes_of_a_networks_stage(stage, block, depth):
    convs = [p for p in stage.parameters() if p.ndim == 4]
    widths = convs[0].shape[1], convs[-1].shape[0]
    stack = StackedBlocks(*widths, 2, block, depth)
    assert {k: v.shape for k, v in stack.state_dict().items()} == {k: v.shape for k, v in stage.state_dict().items()}
    stack.load_state_dict(stage.state_dict())
    x = torch.randn(2, widths[0], 8, 8)
    assert torch.equal(stack.eval()(x), stage.eval()(x))


def test_one_basic_block_is_the_default():
    (block,) = StackedBlocks(3, 5)
    assert isinstance(block, BasicBlock) and block.conv1.in_channels == 3 and block.conv2.out_channels == 5


def test_a_block_of_its_own_rules_keeps_them():
    with pytest.raises(ValueError, match='no layers of growth rate 2 turn 7 channels into 7'):
        StackedBlocks(3, 7, block=dict(type=DenseBlock.__name__, growth_rate=2), depth=2)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(depth=0), ValueError, 'StackedBlocks: depth must be a positive integer, got 0'),
        (dict(stride=0), ValueError, 'stride must be a positive integer, got 0'),
        (dict(block='BasicBlock'), TypeError, r"block must be a config such as dict\(type='BasicBlock'\), got 'Basic"),
        (dict(block=dict(shortcut='pad')), TypeError, 'block must be a config'),
        (
            dict(block=dict(type='BasicBlok')),
            KeyError,
            "'BasicBlok' is not registered in mmrecast.block .nearest: B",
        ),
        (dict(block=dict(type='os.system')), KeyError, "'os.system' is not registered in mmrecast.block"),
        (dict(block=dict(type='BasicBlock', stride=2)), ValueError, 'stride of each block follows from that of the st'),
        (dict(block=dict(type='BasicBlock', shortcut='pda')), ValueError, "unknown shortcut 'pda'"),
    ],
)
def test_mistakes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        StackedBlocks(4, 8, **arguments)
