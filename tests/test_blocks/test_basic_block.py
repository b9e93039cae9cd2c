import numpy as np
import pytest
from torch import nn

from mmrecast.blocks import BasicBlock


def residual(naive, block, x):
    inner = naive.relu(naive.norm(naive.conv(x, block.conv1), block.bn1))
    return naive.norm(naive.conv(inner, block.conv2), block.bn2)


@pytest.mark.parametrize('mid_channels', [None, 3])
def test_agrees_with_the_naive_computation(naive, mid_channels):
    block = naive.randomised(BasicBlock(2, 2, mid_channels=mid_channels))
    x = naive.image(2)
    expected = naive.relu(residual(naive, block, x[0].numpy()) + x[0].numpy())
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-12)
    assert isinstance(block.shortcut, nn.Identity)


def test_projects_where_the_shape_changes(naive):
    block = naive.randomised(BasicBlock(2, 4, stride=2))
    x = naive.image(2)
    shortcut = naive.norm(naive.conv(x[0].numpy(), block.shortcut[0]), block.shortcut[1])
    expected = naive.relu(residual(naive, block, x[0].numpy()) + shortcut)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-12)


def test_pads_where_asked_to(naive):
    block = naive.randomised(BasicBlock(2, 4, stride=2, shortcut='pad'))
    x = naive.image(2)
    shortcut = np.zeros((4, 3, 3))
    shortcut[1:3] = x[0].numpy()[:, ::2, ::2]
    expected = naive.relu(residual(naive, block, x[0].numpy()) + shortcut)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-12)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match='BasicBlock: mid_channels must be a positive integer, got 0'):
        BasicBlock(4, 4, mid_channels=0)
