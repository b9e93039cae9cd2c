import numpy as np
import pytest
import torch

from mmrecast.blocks import DenseBlock


def test_it_computes_what_the_paper_says(naive):
    block = naive.randomised(DenseBlock(3, 7, growth_rate=2, bottleneck=4))
    x = naive.image(3)
    features = x[0].numpy()
    assert len(block.layers) == 2
    for layer in block.layers:
        bn1, _, conv1, bn2, _, conv2 = layer.layers
        assert (conv1.kernel_size, conv1.out_channels, conv2.out_channels) == ((1, 1), 8, 2)
        inner = naive.conv(naive.relu(naive.norm(features, bn1)), conv1)
        new = naive.conv(naive.relu(naive.norm(inner, bn2)), conv2)
        features = np.concatenate([features, new])
    assert np.allclose(block(x)[0].detach().numpy(), features, atol=1e-12)


def test_without_bottlenecks_a_layer_is_one_convolution(naive):
    block = naive.randomised(DenseBlock(3, 6, growth_rate=3, bottleneck=0))
    bn, _, conv = block.layers[0].layers
    x = naive.image(3)
    new = naive.conv(naive.relu(naive.norm(x[0].numpy(), bn)), conv)
    assert np.allclose(block(x)[0, 3:].detach().numpy(), new, atol=1e-12)


def test_the_growth_rate_decides_how_many_layers_fill_the_width():
    assert [len(DenseBlock(24, 216, growth_rate=k).layers) for k in (12, 24, 48)] == [16, 8, 4]
    assert DenseBlock(24, 216)(torch.zeros(1, 24, 4, 4)).shape == (1, 216, 4, 4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=4, out_channels=9, growth_rate=2), 'no layers of growth rate 2 turn 4 channels into 9'),
        (dict(in_channels=4, out_channels=4, growth_rate=2), 'no layers of growth rate 2 turn 4 channels into 4'),
        (dict(in_channels=4, out_channels=6, growth_rate=2, stride=2), 'the stride must be 1, got 2'),
        (dict(in_channels=4, out_channels=6, growth_rate=0), 'growth_rate must be a positive integer, got 0'),
        (dict(in_channels=4, out_channels=6, growth_rate=2, bottleneck=-1), 'bottleneck must be a whole number'),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenseBlock(**arguments)
