import copy

import pytest
import torch
from torch import nn

from mmrecast.blocks import BasicBlock, Bottleneck, ConvBlock, DepthwiseSeparable
from mmrecast.models import build_network
from mmrecast.surgery import describe as module
from mmrecast.surgery.describe import Description, describe, describes, rebuild, refit


@pytest.fixture
def describers(monkeypatch):
    """Describers registered meanwhile are forgotten."""
    monkeypatch.setattr(module, '_DESCRIBERS', dict(module._DESCRIBERS))


@pytest.mark.parametrize(
    ('block', 'expected'),
    [
        (BasicBlock(4, 8, 2, mid_channels=6), ('basic', 2, 6)),
        (Bottleneck(4, 16, 2), ('bottleneck', 2, 4)),
        (ConvBlock(4, 8, 2), ('conv', 2, None)),
        (DepthwiseSeparable(4, 8, 2), ('depthwise_separable', 2, None)),
    ],
)
def test_our_blocks(block, expected):
    found = describe(block)
    assert (found.kind, found.stride, found.mid_channels) == expected


def test_subclasses_are_understood_and_other_classes_are_not():
    assert describe(type('Mine', (ConvBlock,), {})(4, 4)).kind == 'conv'
    assert describe(nn.Linear(4, 4)) is None


def test_a_subclass_made_of_other_parts_is_unknown():
    net = build_network(dict(type='mmpretrain.Res2Net', depth=50, scales=4, base_width=4))
    assert describe(net.layer1[0]) is None


@pytest.mark.parametrize('width', [3, 32])
def test_rebuilt_blocks_read_another_width_and_give_the_same(library_net, width):
    net, shape, pattern = library_net
    backbone = getattr(net, 'backbone', net)
    for old in (backbone.layer1[1], backbone.layer2[0], backbone.layer2[1]):
        c_in, before = old.conv1.in_channels, {k: v.clone() for k, v in old.state_dict().items()}
        expected = old(torch.randn(2, c_in, 8, 8)).shape
        new = rebuild(old, width)
        assert type(new) is type(old) and new.conv1.in_channels == width
        assert new(torch.randn(2, width, 8, 8)).shape == expected
        assert [m.training for m in new.modules()] == [False] * len(list(new.modules()))
        after = old.state_dict()
        assert after.keys() == before.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
        kept = new.state_dict()
        assert torch.equal(kept['conv2.weight'], before['conv2.weight'])  # what does not read the input is kept


def test_an_identity_becomes_a_projection_and_may_become_one_again():
    block = BasicBlock(8, 8)
    narrow = rebuild(block, 4)
    conv, norm = narrow.shortcut
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.bias) == (
        4,
        8,
        (1, 1),
        (1, 1),
        None,
    )
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(block.shortcut, nn.Identity)
    padded = rebuild(BasicBlock(4, 8, 2, shortcut='pad'), 16)
    assert padded.shortcut[0].stride == (2, 2) and padded(torch.zeros(1, 16, 8, 8)).shape == (1, 8, 4, 4)
    assert isinstance(rebuild(BasicBlock(4, 8, shortcut='pad'), 8).shortcut, nn.Identity)


@pytest.mark.parametrize('block', [ConvBlock(4, 8, 2, kernel_size=5), DepthwiseSeparable(4, 8, 2, kernel_size=5)])
def test_plain_blocks_are_rebuilt(block):
    new = rebuild(block, 6)
    assert type(new) is type(block)
    assert new(torch.zeros(2, 6, 8, 8)).shape == block(torch.zeros(2, 4, 8, 8)).shape == (2, 8, 4, 4)
    assert [m.kernel_size for m in new.modules() if isinstance(m, nn.Conv2d)][0] == (5, 5)


def test_a_subclass_with_other_arguments_is_rebuilt():
    class Doubled(DepthwiseSeparable):
        def __init__(self, width):
            super().__init__(width, 2 * width)

    assert rebuild(Doubled(4), 6)(torch.zeros(1, 6, 4, 4)).shape == (1, 8, 4, 4)


def test_a_users_describer(describers):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1, bias=False)

        def forward(self, x):
            return torch.cat([self.left(x), self.right(x)], 1)

    with pytest.raises(
        ValueError, match='Mine cannot be rebuilt for 2 input channels: register a describer for .*Mine'
    ):
        rebuild(Mine(), 2)

    @describes(f'{Mine.__module__}.{Mine.__qualname__}')
    def mine(block):
        return Description('mine', reads_input=('left', 'right'))

    assert describe(Mine()) == Description('mine', 1, None, ('left', 'right'))
    assert rebuild(Mine(), 2)(torch.zeros(1, 2, 4, 4)).shape == (1, 6, 4, 4)

    @describes(f'{Mine.__module__}.{Mine.__qualname__}')
    def by_itself(block):
        return Description('mine', rebuild=lambda old, width: nn.Conv2d(width, 6, 1))

    assert isinstance(rebuild(Mine(), 2), nn.Conv2d)


@pytest.mark.parametrize(
    ('layer', 'width', 'shape'),
    [
        (nn.Conv2d(4, 6, 3, 2, 2, 2, 2, False, 'reflect'), 8, (2, 8, 9, 9)),
        (nn.Conv2d(4, 6, 3, padding='same'), 3, (2, 3, 5, 5)),
        (nn.Linear(12, 5, bias=False), 3, (2, 3)),
        (nn.BatchNorm2d(4, 1e-3, 0.3, affine=False), 3, (2, 3, 5, 5)),
        (nn.BatchNorm2d(4, track_running_stats=False), 3, (2, 3, 5, 5)),
        (nn.BatchNorm2d(4, affine=False, track_running_stats=False), 3, (2, 3, 5, 5)),
        (nn.BatchNorm1d(4), 3, (2, 3)),
    ],
)
def test_refit_keeps_everything_but_the_width(layer, width, shape):
    layer = copy.deepcopy(layer).double().eval()
    new = refit(layer, width)
    assert type(new) is type(layer) and not new.training
    assert {t.dtype for t in new.state_dict().values() if t.is_floating_point()} <= {torch.float64}
    x, old_x = torch.zeros(shape).double(), torch.zeros(shape[0], getattr(layer, 'in_features', 4), *shape[2:]).double()
    assert new(x).shape[2:] == layer(old_x).shape[2:]
    names = ('out_channels', 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'padding_mode', 'out_features')
    names += ('eps', 'momentum', 'affine', 'track_running_stats')
    assert [getattr(new, n, None) for n in names] == [getattr(layer, n, None) for n in names]
    assert (new.bias is None) == (layer.bias is None)


def test_refit_keeps_the_class_of_a_layer():
    class Halved(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) / 2

    assert type(refit(Halved(4, 4, 1), 2)) is Halved

    class Fixed(nn.Conv2d):
        def __init__(self):
            super().__init__(4, 4, 1)

    with pytest.raises(ValueError, match='Fixed cannot be rebuilt for 2 input channels: .*unexpected keyword'):
        refit(Fixed(), 2)


def test_what_cannot_be_refitted():
    with pytest.raises(ValueError, match='Conv2d with 4 groups cannot read 6 channels'):
        refit(nn.Conv2d(4, 4, 3, groups=4), 6)
    with pytest.raises(ValueError, match='GroupNorm cannot be rebuilt for 6 input channels'):
        refit(nn.GroupNorm(2, 4), 6)
