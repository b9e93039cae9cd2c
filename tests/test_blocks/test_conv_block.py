import numpy as np
import pytest

from mmrecast.blocks import ConvBlock, SourceInfo


@pytest.mark.parametrize(('stride', 'kernel_size'), [(1, 3), (2, 3), (1, 1), (2, 5)])
def test_agrees_with_the_naive_computation(naive, stride, kernel_size):
    block = naive.randomised(ConvBlock(2, 3, stride, kernel_size))
    x = naive.image(2)
    expected = naive.relu(naive.norm(naive.conv(x[0].numpy(), block.conv), block.bn))
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-12)


def test_counts_nine_weights_per_pair_of_channels_and_no_bias():
    assert sum(p.numel() for p in ConvBlock(16, 32).parameters()) == 16 * 32 * 9 + 2 * 32


def test_a_bottleneck_becomes_as_wide_as_its_3x3():
    assert ConvBlock.preferred_width(SourceInfo('bottleneck', 64, 256, 1, 64)) == 64
    assert ConvBlock.preferred_width(SourceInfo('basic', 16, 32, 2, 24)) == 32


def test_names_what_a_closed_form_start_fills():
    block = ConvBlock(4, 4)
    assert block.solvable() == (block.conv, block.bn)


@pytest.mark.parametrize('kernel_size', [2, 4])
def test_even_kernels_are_refused(kernel_size):
    with pytest.raises(ValueError, match=f'ConvBlock: kernel_size must be odd, got {kernel_size}'):
        ConvBlock(4, 4, kernel_size=kernel_size)
