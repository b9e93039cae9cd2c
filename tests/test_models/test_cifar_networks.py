"""Wide ResNets, DenseNets and VGGs for 32x32 images: what they cost, what they compute, what they refuse."""

import pytest
import torch
from torch import nn

from mmrecast.analysis.complexity import count
from mmrecast.models import CifarDenseNet, CifarResNet, CifarVGG, WideResNet, build_network


def millions(network):
    counted = count(network, (3, 32, 32))
    return counted.params / 1e6, counted.mults / 1e6, counted.acts / 1e6


@pytest.mark.parametrize(
    ('build', 'params', 'mults', 'acts'),
    [
        (lambda: WideResNet(28, 10), '36.45', '5243', '2.53'),
        (lambda: WideResNet(28, 2), '1.46', '214', '0.54'),
        (lambda: CifarDenseNet(100), '0.74', '288', '4.41'),
        (lambda: CifarVGG(16), '14.71', '313', '0.31'),
    ],
)
def test_counts_are_those_of_the_papers_networks(build, params, mults, acts):
    """Network Recasting, Tables 2 and 3 (WRN's activation load there leaves one projection's input out)."""
    ours = millions(build())
    assert (f'{ours[0]:.2f}', f'{ours[1]:.0f}', f'{ours[2]:.2f}') == (params, mults, acts)


@pytest.mark.parametrize(
    ('build', 'convs'),
    [
        (lambda: WideResNet(16, 1), 16 - 1),  # with k = 1 stage 1 needs no projection
        (lambda: WideResNet(28, 2), 28),  # the classifier is not counted, three projections are
        (lambda: CifarDenseNet(40), 40 - 1),
        (lambda: CifarDenseNet(40, bottleneck=0, reduction=1.0), 40 - 1),
        (lambda: CifarVGG(16), 16 - 3),
        (lambda: CifarVGG(8), 8 - 3),
    ],
)
def test_depth_counts_the_layers(build, convs):
    assert sum(isinstance(m, nn.Conv2d) for m in build().modules()) == convs


X4 = dict(shortcut='B', stem_width=32, widths=(64, 128, 256))
VGG = dict(hidden=None, pools=3)


@pytest.mark.parametrize(
    ('network', 'params'),
    [
        (CifarResNet(56, shortcut='B'), 861_620),
        (CifarResNet(20, shortcut='B'), 278_324),
        (CifarResNet(32, **X4), 7_433_860),
        (CifarResNet(8, **X4), 1_233_540),
        (CifarVGG(13, **VGG), 9_462_180 - 2944),  # there the convolutions in front of BN have biases
        (CifarVGG(8, **VGG), 3_965_028 - 1472),
        (WideResNet(40, 2), 2_255_156),
        (WideResNet(16, 2), 703_284),
    ],
)
def test_networks_of_the_classic_pairs_have_the_parameters_of_repdistillers(network, params):
    """Counted on its modules, with a classifier of 100 classes."""
    assert sum(p.numel() for p in network.parameters()) + 100 * (network.out_channels + 1) == params


def test_densenets_widths_are_the_papers():
    net = CifarDenseNet(100)
    assert [b.layers[0].layers[2].in_channels for b in (net.block1, net.block2, net.block3)] == [24, 108, 150]
    assert net.out_channels == 342 and [len(b.layers) for b in (net.block1, net.block2, net.block3)] == [16] * 3
    assert (net.transition1[2].in_channels, net.transition2[2].in_channels) == (216, 300)
    plain = CifarDenseNet(40, bottleneck=0, reduction=1.0)
    assert (plain.conv1.out_channels, plain.out_channels) == (16, 16 + 3 * 144)


@pytest.mark.parametrize('make', [lambda: WideResNet(10, 1), lambda: CifarDenseNet(10, 4)])
def test_residual_and_dense_networks_give_an_activated_map(make):
    net = make()
    (out,) = net(torch.randn(2, 3, 16, 16))
    assert out.shape == (2, net.out_channels, 4, 4) and out.min() >= 0


@pytest.mark.parametrize(('hidden', 'width'), [(9, 9), (None, 16)])
def test_vgg_gives_features(hidden, width):
    net = CifarVGG(11, hidden, widths=(2, 4, 8, 8, 16))
    (out,) = net(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, width) == (2, net.out_channels)
    assert net(torch.randn(2, 3, 64, 64))[0].shape == (2, width)  # larger images are pooled to one pixel, too


def test_vgg_pools_behind_as_many_stages_as_it_is_told():
    net, sizes = CifarVGG(8, None, widths=(2, 3, 4, 5, 6), pools=3), []
    for layer in net.features:
        layer.register_forward_hook(lambda layer, args, out: sizes.append((type(layer).__name__, out.shape[-1])))
    (out,) = net(torch.randn(2, 3, 32, 32))
    assert [size for name, size in sizes if name == 'ReLU'] == [32, 16, 8, 4, 4]
    assert [size for name, size in sizes if name == 'MaxPool2d'] == [16, 8, 4]
    assert out.shape == (2, 6)


def test_vgg_stands_where_torchvision_has_it():
    ours = [type(m) for m in CifarVGG(16).features]
    theirs = build_network(dict(type='TorchvisionClassifier', name='vgg16_bn', num_classes=5)).features
    assert ours == [type(m) for m in theirs]
    assert [m.out_channels for m in CifarVGG(16).features if isinstance(m, nn.Conv2d)] == [
        m.out_channels for m in theirs if isinstance(m, nn.Conv2d)
    ]
    plain = CifarVGG(13, batch_norm=False).features
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain) and plain[0].bias is not None


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: WideResNet(27), r'WideResNet: depth must be 6n\+4, got 27'),
        (lambda: WideResNet(28, 0), 'WideResNet: positive widen_factor and in_channels expected, got 0 and 3'),
        (lambda: CifarDenseNet(41), r'depth must be 6n\+4 with bottlenecks, got 41'),
        (lambda: CifarDenseNet(41, bottleneck=0), r'depth must be 3n\+4 without bottlenecks, got 41'),
        (lambda: CifarDenseNet(40, reduction=0), r'reduction must be in \(0, 1\], got 0'),
        (lambda: CifarDenseNet(40, 0), 'positive growth_rate and in_channels expected, got 0 and 3'),
        (lambda: CifarVGG(12), r'CifarVGG: unknown depth 12 \(nearest: .*13'),
        (lambda: CifarVGG(8, widths=(4, 4)), r'CifarVGG: five positive widths, .* got \(4, 4\)'),
        (lambda: CifarVGG(8, pools=6), 'CifarVGG: pools must be a whole number from 0 to 5, got 6'),
        (lambda: CifarVGG(8, pools=True), 'pools must be a whole number from 0 to 5, got True'),
        (lambda: CifarVGG(8, hidden=0), 'five positive widths, positive in_channels and hidden .* and 0'),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
