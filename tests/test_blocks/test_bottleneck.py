import numpy as np
import pytest

from mmrecast.blocks import Bottleneck


@pytest.mark.parametrize(('stride', 'out_channels'), [(1, 4), (1, 8), (2, 8)])
def test_agrees_with_the_naive_computation(naive, stride, out_channels):
    block = naive.randomised(Bottleneck(4, out_channels, stride))
    x = naive.image(4)
    out = naive.relu(naive.norm(naive.conv(x[0].numpy(), block.conv1), block.bn1))
    out = naive.relu(naive.norm(naive.conv(out, block.conv2), block.bn2))
    out = naive.norm(naive.conv(out, block.conv3), block.bn3)
    shortcut = x[0].numpy()
    if (stride, out_channels) != (1, 4):
        shortcut = naive.norm(naive.conv(shortcut, block.shortcut[0]), block.shortcut[1])
    np.testing.assert_allclose(block(x)[0].detach().numpy(), naive.relu(out + shortcut), atol=1e-12)


def test_the_3x3_carries_the_stride_and_a_quarter_of_the_channels():
    block = Bottleneck(64, 256, stride=2)
    assert (block.conv2.in_channels, block.conv2.out_channels, block.conv2.stride) == (64, 64, (2, 2))
    assert block.conv1.stride == (1, 1)
    assert Bottleneck(64, 256, mid_channels=40).conv2.out_channels == 40


def test_too_narrow_an_output_needs_a_width():
    with pytest.raises(ValueError, match='Bottleneck: mid_channels must be a positive integer, got 0'):
        Bottleneck(4, 3)
