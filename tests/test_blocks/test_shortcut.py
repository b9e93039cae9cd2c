import pytest
import torch
from torch import nn

from mmrecast.blocks.shortcut import PadShortcut, build_shortcut


def test_option_a_takes_every_second_pixel_and_puts_the_channels_in_the_middle():
    x = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    out = PadShortcut(2, 4, stride=2)(x)
    assert out.tolist() == [[[[0, 0], [0, 0]], [[0, 2], [8, 10]], [[16, 18], [24, 26]], [[0, 0], [0, 0]]]]


def test_an_odd_number_of_new_channels_goes_behind():
    out = PadShortcut(1, 4)(torch.ones(1, 1, 1, 1))
    assert out.flatten().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize('kind', ['projection', 'pad'])
def test_nothing_is_done_where_the_shape_stays(kind):
    assert isinstance(build_shortcut(kind, 8, 8, 1), nn.Identity)


@pytest.mark.parametrize(('out_channels', 'stride'), [(16, 1), (8, 2)])
def test_a_projection_is_a_1x1_convolution_with_bn(out_channels, stride):
    conv, bn = build_shortcut('projection', 8, out_channels, stride)
    assert (conv.kernel_size, conv.stride, conv.bias) == ((1, 1), (stride, stride), None)
    assert bn.num_features == out_channels


def test_padding_cannot_take_channels_away():
    with pytest.raises(ValueError, match=r"shortcut 'pad' cannot take channels away, got 8 -> 4"):
        build_shortcut('pad', 8, 4, 1)


def test_an_unknown_shortcut_is_refused():
    with pytest.raises(ValueError, match=r"unknown shortcut 'projektion' \(nearest: projection\)"):
        build_shortcut('projektion', 8, 8, 1)
