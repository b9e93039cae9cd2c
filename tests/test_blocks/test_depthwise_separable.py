import numpy as np
import pytest

from mmrecast.blocks import DepthwiseSeparable


@pytest.mark.parametrize(('stride', 'kernel_size'), [(1, 3), (2, 3), (2, 5)])
def test_agrees_with_the_naive_computation(naive, stride, kernel_size):
    block = naive.randomised(DepthwiseSeparable(3, 4, stride, kernel_size))
    x = naive.image(3)
    out = naive.relu(naive.norm(naive.conv(x[0].numpy(), block.depthwise), block.bn1))
    expected = naive.relu(naive.norm(naive.conv(out, block.pointwise), block.bn2))
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-12)


def test_counts_one_filter_per_channel():
    block = DepthwiseSeparable(16, 32)
    assert block.depthwise.weight.numel() == 16 * 9
    assert block.pointwise.weight.numel() == 16 * 32


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match='DepthwiseSeparable: kernel_size must be odd, got 4'):
        DepthwiseSeparable(4, 4, kernel_size=4)
