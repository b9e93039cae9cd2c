"""Which groups narrow, by how much, and the narrower layers; against zeroed channels and counts made by hand."""

import copy

import pytest
import torch
from hand_networks import FREE, SHAPE, Net, bn, build, conv, fc, pooled, zeroed
from torch import nn
from torchvision import models

from mmrecast.analysis.complexity import count
from mmrecast.models import CifarResNet, build_network
from mmrecast.surgery.channel_graph import Segment
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups, divisors_for
from mmrecast.surgery.widths import LayerWidths, Widths, kept_ranges, narrow, take, widths_of

IMAGE = (3, 32, 32)


def halves(graph):
    """Return divisor 2 for every group that it divides."""
    return {
        name: 2
        for name, group in graph.groups.items()
        if not group.fixed and not any(number % 2 for number in group.multiples)
    }


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


# ---- the narrow network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', FREE)
@torch.no_grad()
def test_a_narrow_network_is_the_full_one_with_zeroed_channels(name):
    network = build(FREE, name).eval()
    graph = trace_channels(network, SHAPE)
    divisors = halves(graph)
    assert {*FREE[name][2]} - {'attend'} == {*divisors}  # its one channel
    widths = widths_of(graph, divisors)
    small = narrow(copy.deepcopy(network), widths)
    images = torch.randn(4, *SHAPE)
    expected = zeroed(network, widths)(images)
    assert expected.std() > 1e-3 and not torch.allclose(expected, network(images), rtol=1e-3)
    torch.testing.assert_close(small(images), expected, rtol=1e-4, atol=1e-5)
    for path in widths.layers:
        layer = small.get_submodule(path)
        inside = getattr(layer, 'in_channels', getattr(layer, 'in_features', None))
        outside = getattr(layer, 'out_channels', getattr(layer, 'out_features', getattr(layer, 'num_features', None)))
        assert layer.weight is None or len(layer.weight) == outside
        assert inside is None or layer.weight.shape[1] * getattr(layer, 'groups', 1) == inside


def copy_prefixes(source: nn.Module, target: nn.Module) -> None:
    """Give every tensor of ``target`` the first numbers of ``source``'s along both dimensions of channels."""
    theirs = source.state_dict()
    with torch.no_grad():
        for name, tensor in target.state_dict().items():
            value = theirs[name]
            for dim in range(min(2, value.dim())):
                value = value.narrow(dim, 0, tensor.shape[dim])
            tensor.copy_(value)


def test_a_narrow_resnet_is_the_resnet_of_those_widths():
    """CifarResNet-20 of 16, 32, 64 channels by 2 above 16 is that of 16, 16, 32, with the first of its weights."""
    torch.manual_seed(0)
    network, expected = (
        Net(
            lambda m, x: m.fc(pooled(m.net(x)[-1])), net=CifarResNet(20, shortcut='B', widths=widths), fc=fc(widths[-1])
        )
        for widths in ((16, 32, 64), (16, 16, 32))
    )
    network.train()(torch.randn(8, *IMAGE))
    graph = trace_channels(network, IMAGE)
    small = narrow(copy.deepcopy(network), widths_of(graph, divisors_for(graph, 2, above=16))).eval()
    assert shapes(small) == shapes(expected)
    copy_prefixes(network, expected.eval())
    images = torch.randn(4, *IMAGE)
    with torch.no_grad():
        assert torch.equal(small(images), expected(images))


def test_parts_of_a_concatenation_are_taken_from_the_middle():
    """Behind 4 and 6 channels, halved: the reader keeps inputs 0, 1 and 4, 5, 6; flattened, the places of these."""
    network = Net(
        lambda m, x: m.fc(m.c(torch.cat([m.a(x), m.b(x)], 1)).flatten(1)),
        a=conv(3, 4), b=conv(3, 6), c=nn.Conv2d(10, 10, 3, 4, 1, groups=10), fc=fc(10 * 4),
    )  # fmt: skip
    graph = trace_channels(network, SHAPE)
    widths = widths_of(graph, dict(a=2, b=2))
    assert widths.layers['c'] == LayerWidths(((0, 2), (4, 7)), ((0, 2), (4, 7)))
    assert widths.layers['fc'] == LayerWidths(((0, 8), (16, 28)), ((0, 10),))
    small = narrow(copy.deepcopy(network), widths)
    rows = [0, 1, 2, 3, 4, 5, 6, 7, *range(16, 28)]
    assert torch.equal(small.fc.weight, network.fc.weight[:, rows]) and small.fc.in_features == 20
    assert torch.equal(small.c.weight, network.c.weight[[0, 1, 4, 5, 6]]) and small.c.groups == 5


def test_ranges():
    parts = (Segment('a', 4), Segment('b', 6), Segment('c', 8, 3))
    assert kept_ranges(parts, {}) == ((0, 34),)
    assert kept_ranges(parts, dict(b=3)) == ((0, 6), (10, 34))
    assert kept_ranges(parts, dict(a=4, c=2)) == ((0, 1), (4, 22))
    tensor = torch.arange(34.0)
    assert take(tensor, 0, ((0, 34),)) is tensor
    assert take(tensor, 0, ((2, 4),)).data_ptr() == tensor[2:].data_ptr()  # a view
    assert take(tensor.view(1, 34), 1, ((0, 1), (4, 6))).tolist() == [[0, 4, 5]]


def test_divisor_1_changes_nothing():
    network = build(FREE, 'residual sum')
    graph = trace_channels(network, SHAPE)
    widths = widths_of(graph, dict(a=1, b=1))
    assert widths == Widths({}, SHAPE)
    assert shapes(narrow(copy.deepcopy(network), widths)) == shapes(network)


def test_what_is_narrowed_keeps_kind_mode_and_whether_it_trains():
    network = build(FREE, 'plain').double()
    network.eval().b.weight.requires_grad_(False)
    network.n1.momentum = 0.3
    network.b.weight.grad = None
    small = narrow(network, widths_of(trace_channels(network, SHAPE), dict(a=2)))
    assert small is network and small.b.weight.dtype == torch.float64
    assert not small.b.weight.requires_grad and small.b.bias.requires_grad and small.a.weight.requires_grad
    assert small.n1.momentum == 0.3 and not small.n1.training and len(small.n1.running_var) == 4
    assert isinstance(small.a.weight, nn.Parameter) and small.a.weight.is_leaf


# ---- counted by hand ------------------------------------------------------------------------------------------------


def resnet50_by_hand(alpha: int, stem: list[tuple[int, int, int, int]], size: int = 224) -> tuple[int, int]:
    """Return weights and multiplications of ResNet-50's convolutions, stages 2 to 4 narrowed by ``alpha``.

    Args:
        alpha (int): Divisor of every width but the stem's and stage 1's.
        stem (list[tuple]): (inputs, outputs, kernel, stride) of its convolutions; a max pooling of stride 2 follows.
        size (int): Pixels of the image. Defaults to 224.
    """
    weights = mults = 0

    def convolution(inputs: int, outputs: int, kernel: int, places: int) -> None:
        nonlocal weights, mults
        weights += inputs * outputs * kernel * kernel
        mults += inputs * outputs * kernel * kernel * places * places

    for inputs, outputs, kernel, stride in stem:
        size //= stride
        convolution(inputs, outputs, kernel, size)
    size, channels = size // 2, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        middle = 64 * 2**stage // (alpha if stage else 1)
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            convolution(channels, middle, 1, size)
            convolution(middle, middle, 3, size // stride)
            convolution(middle, 4 * middle, 1, size // stride)
            if not block:
                convolution(channels, 4 * middle, 1, size // stride)
            size, channels = size // stride, 4 * middle
    return weights, mults


STEMS = {
    'torchvision': ([(3, 64, 7, 2)], 1_705_152, 1_030_815_744),
    'of the authors': ([(3, 32, 3, 2), (32, 64, 3, 1), (64, 64, 3, 1)], 1_751_904, 1_617_272_832),
}


@pytest.mark.parametrize('name', STEMS)
def test_resnet50_by_4_costs_what_counting_by_hand_gives(name):
    """arXiv 2006.05624 has 1.8 M and 1.6 G for its ResNet-50, whose stem is three convolutions."""
    stem, weights, mults = STEMS[name]
    assert resnet50_by_hand(4, stem) == (weights, mults)
    network = models.resnet50(num_classes=10)
    layers = [
        [nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU()] if len(stem) > 1 else []
        for i, o, k, s in stem
    ]
    if len(stem) > 1:
        network.conv1 = nn.Sequential(*sum(layers, []))
    graph = trace_channels(network, (3, 64, 64))
    narrow(network, widths_of(graph, divisors_for(graph, 4)))
    counted = count(network, (3, 224, 224), 'cifar')
    assert (counted.params, counted.mults) == (weights, mults)


# ---- widths of another network --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('layers', 'said'),
    [
        (dict(a=(((0, 3),), ((0, 16),))), r"'a' has out_channels=8, kept are \(\(0, 16\),\)"),
        (dict(d=(((0, 4),), ((0, 4),))), "the widths do not fit Net: Net has no module 'd' .nearest: "),
        (dict(relu=(((0, 4),), ((0, 4),))), "the widths do not fit: 'relu' is a ReLU, which cannot be narrowed"),
        (dict(n1=(((0, 9),), ((0, 9),))), "'n1' has num_features=8"),
    ],
)
def test_widths_that_do_not_fit(layers, said):
    widths = Widths({path: LayerWidths(*sides) for path, sides in layers.items()}, SHAPE)
    with pytest.raises(ValueError, match=said):
        narrow(build(FREE, 'residual sum'), widths)


def test_widths_that_tear_a_grouped_convolution():
    widths = Widths(dict(b=LayerWidths(((0, 3),), ((0, 6),))), SHAPE)  # 4 groups of 2 → 4 channels
    with pytest.raises(ValueError, match="'b' has 4 groups, kept are 3 → 6 channels"):
        narrow(build(FREE, 'grouped'), widths)


def test_plain_data_and_back():
    graph = trace_channels(build(FREE, 'concatenation'), SHAPE)
    widths = widths_of(graph, dict(a=2, c=2))
    data = widths.to_dict()
    assert data['layers']['c'] == dict(inputs=[[0, 2], [4, 10]], outputs=[[0, 1]])
    assert Widths.from_dict(data) == widths and data['input_shape'] == [3, 8, 8]


def test_a_network_of_a_config_is_narrowed_by_name():
    """The classifier of mmpretrain that holds a CifarResNet: paths are the network's own."""
    from tiny import classifier

    network = build_network(classifier(depth=8, widths=(4, 8, 16), shortcut='B'))
    graph = trace_channels(network, (1, 8, 8))
    assert adjoined_groups(graph, above=4) == [
        f'backbone.layer{stage}.0.conv{i}' for stage in (2, 3) for i in (1, 2)
    ]  # fmt: skip
    narrow(network, widths_of(graph, divisors_for(graph, 4, above=4)))
    assert network.head.fc.in_features == 4 and network(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_bn_without_scales():
    network = Net(lambda m, x: m.fc(pooled(m.n(m.a(x)))), a=conv(3, 8), n=nn.BatchNorm2d(8, affine=False), fc=fc(8))
    small = narrow(copy.deepcopy(network), widths_of(trace_channels(network, SHAPE), dict(a=2)))
    assert small.n.weight is None and len(small.n.running_mean) == 4 and small.n.num_batches_tracked.dim() == 0
    assert bn(4)(small.a(torch.randn(2, *SHAPE))).shape == (2, 4, 8, 8)
