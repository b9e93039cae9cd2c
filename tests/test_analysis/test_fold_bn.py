import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmrecast.analysis import fold_bn as module
from mmrecast.analysis.fold_bn import fold_bn
from mmrecast.blocks import BasicBlock
from mmrecast.models import build_network


def with_statistics(network):
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 1, generator=generator)
            layer.running_var.uniform_(0.2, 4, generator=generator)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 2, generator=generator)
                nn.init.normal_(layer.bias, generator=generator)
    return network.eval()


class Net(nn.Module):
    """Two convolutions and a BN layer, put together by a function."""

    def __init__(self, run, affine=True):
        super().__init__()
        self.run, self.conv, self.other = run, nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.bn, self.bn2 = nn.BatchNorm2d(2, affine=affine), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.run(self, x).flatten(1)


@pytest.mark.parametrize('affine', [True, False])
def test_folded_weights_are_those_of_the_formula(affine):
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x)).relu_(), affine))
    old, x = copy.deepcopy(net), torch.randn(3, 2, 5, 5)
    got = fold_bn(net, (2, 5, 5))
    scale = (old.bn.weight if affine else 1) / (old.bn.running_var + old.bn.eps).sqrt()
    torch.testing.assert_close(net.conv.weight, old.conv.weight * scale.view(-1, 1, 1, 1))
    shift = old.bn.bias if affine else 0
    torch.testing.assert_close(net.conv.bias, (old.conv.bias - old.bn.running_mean) * scale + shift)
    torch.testing.assert_close(net(x), old(x))
    assert (got.folded, got.layers) == (1, 2) and got.difference < 1e-5  # the other one is never called
    assert isinstance(net.bn, nn.Identity)


@pytest.mark.parametrize(
    'run',
    [
        lambda n, x: n.bn(n.conv(x.relu())) + n.other(x),
        lambda n, x: n.bn(n.conv(n.other(x))).relu_() * 2,
    ],
    ids=['beside a shortcut', 'behind another convolution'],
)
def test_exact_pairs_are_folded(run):
    net = with_statistics(Net(run))
    x = torch.randn(3, 2, 5, 5)
    expected = net(x)
    assert fold_bn(net, (2, 5, 5)).folded == 1
    torch.testing.assert_close(net(x), expected)


def twice(n, x):
    return n.bn(n.conv(n.bn(n.conv(x))))


@pytest.mark.parametrize(
    'run',
    [
        lambda n, x: n.conv(n.bn(x).relu()),
        lambda n, x: n.bn(n.conv(x).relu()),
        lambda n, x: (lambda y: n.bn(y) + y)(n.conv(x)),
        lambda n, x: (lambda y: n.bn(y) + n.bn2(y))(n.conv(x)),
        lambda n, x: n.bn(n.conv(x)) + n.bn(n.other(x)),
        lambda n, x: n.bn(n.conv(x)) + n.conv(x),
        lambda n, x: n.bn(n.conv(x)[:, :, 1:]),
        lambda n, x: n.bn(functional.relu_(n.conv(x))),
        lambda n, x: (lambda y: (n.bn(y), n.other(y))[1])(n.conv(x)),
        twice,
    ],
    ids=[
        'BN first', 'ReLU between', 'read again', 'two BN', 'one BN for two', 'convolution twice', 'a part of it',
        'in place', 'read by a convolution', 'both twice',
    ],
)  # fmt: skip
def test_what_is_not_exact_is_left_alone(run):
    net = with_statistics(Net(run))
    before, x = copy.deepcopy(net), torch.randn(3, 2, 5, 5)
    assert fold_bn(net, (2, 5, 5)).folded == 0
    assert torch.equal(net(x), before(x))
    assert isinstance(net.bn, nn.BatchNorm2d)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


def test_a_convolution_that_does_something_to_its_weights_is_left_alone():
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x))))
    net.conv = Standardised(2, 2, 3, padding=1)
    assert fold_bn(net, (2, 5, 5)).folded == 0


def test_batch_statistics_cannot_be_folded():
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x))))
    net.bn = nn.BatchNorm2d(2, track_running_stats=False)
    assert fold_bn(net, (2, 5, 5)) == module.Folding(0, 2, 0.0)


def test_hooks_of_the_search_are_gone():
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x))))
    fold_bn(net, (2, 5, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ('name', 'shape', 'folded', 'layers'),
    [
        ('resnet18', (3, 64, 64), 20, 20),
        ('densenet121', (3, 64, 64), 59, 121),  # by hand: the stem's, and the second one of each of 58 layers
        ('vgg11_bn', (3, 32, 32), 8, 8),
        ('mobilenet_v2', (3, 64, 64), 52, 52),
    ],
)
def test_networks_of_torchvision(name, shape, folded, layers):
    net = with_statistics(build_network(dict(type='TorchvisionClassifier', name=name, num_classes=7)))
    x = torch.rand(2, *shape)
    with torch.no_grad():
        expected = net(x)
        got = fold_bn(net, shape)
        assert (got.folded, got.layers) == (folded, layers)
        assert (net(x) - expected).norm() / expected.norm() < 1e-4


def test_own_blocks():
    net = with_statistics(nn.Sequential(BasicBlock(2, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    x = torch.rand(2, 2, 6, 6)
    expected = net(x)
    assert fold_bn(net, (2, 6, 6)).folded == 3
    torch.testing.assert_close(net(x), expected)


def test_modes_and_buffers_are_left_as_they_were():
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x)) + n.bn2(x)))
    net.bn2.train()
    mean = net.bn2.running_mean.clone()
    fold_bn(net, (2, 5, 5))
    assert net.bn2.training and torch.equal(net.bn2.running_mean, mean)


def test_a_fold_that_is_no_fold_is_refused(monkeypatch):
    """A network that counts its calls computes something else the second time."""
    state = iter(range(100))
    net = with_statistics(Net(lambda n, x: n.bn(n.conv(x)) * (1 + next(state))))
    with pytest.raises(ValueError, match='folding BN changes the output of Net by 1.0e[+]00: leave it out'):
        fold_bn(net, (2, 5, 5))


def test_an_input_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r'Net does not take an input of \(3, 5, 5\): .* 2 channels'):
        fold_bn(Net(lambda n, x: n.bn(n.conv(x))), (3, 5, 5))
