import math

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from mmrecast.connectors.ofd import OFDTeacherConnector, norm_before
from mmrecast.links.taps import Tap
from mmrecast.models import CifarResNet, CifarVGG, WideResNet
from mmrecast.registry import MODELS

WEIGHTS = [1.0, -0.5, 0.2, 1.5, 0.1, 0.0, 0.0]
BIASES = [0.0, 0.4, 0.9, -2.0, 0.31, -0.5, 0.5]


def mean_below_zero(weight, bias, steps=200_000):
    """E[x | x < 0] of x ~ N(bias, weight²) by the midpoint rule; −3|weight| where hardly anything is below zero."""
    scale = abs(weight)
    if scale == 0:
        return min(bias, 0.0)
    low = bias - 12 * scale
    if low >= 0:
        return -3 * scale
    width = -low / steps
    points = [low + (i + 0.5) * width for i in range(steps)]
    density = [math.exp(-(((x - bias) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi)) for x in points]
    probability = sum(density) * width
    if probability <= 0.001:
        return -3 * scale
    return sum(x * d for x, d in zip(points, density, strict=True)) * width / probability


def batch_norm(weights=WEIGHTS, biases=BIASES):
    norm = nn.BatchNorm2d(len(weights)).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(weights, dtype=torch.float64))
        norm.bias.copy_(torch.tensor(biases, dtype=torch.float64))
    return norm


def bound(norm=None, **kwargs):
    connector = MODELS.build(dict(type='OFDTeacherConnector', **kwargs))
    connector.bind(nn.Sequential(norm or batch_norm()), Tap('0'))
    return connector


def test_the_margin_is_the_mean_of_what_the_relu_cuts_off():
    connector = bound()
    low = torch.full((1, 7, 1, 1), -100.0, dtype=torch.float64)
    expected = [mean_below_zero(w, b) for w, b in zip(WEIGHTS, BIASES, strict=True)]
    assert expected[0] == pytest.approx(-math.sqrt(2 / math.pi))
    assert expected[2] == pytest.approx(-0.6)  # 4.5 standard deviations above zero
    assert expected[4] == pytest.approx(-0.3)  # 3.1 of them: P(x < 0) = 0.00097
    assert connector(low).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_what_lies_above_the_margin_passes():
    connector = bound(batch_norm([1.0], [0.0]))
    x = torch.tensor([[[[2.0, -0.1], [-0.79, -0.81]]]], dtype=torch.float64)
    assert connector(x).flatten().tolist() == pytest.approx([2.0, -0.1, -0.79, -math.sqrt(2 / math.pi)])


def test_several_taps_have_each_its_own_margins():
    network = nn.ModuleDict(dict(a=batch_norm([1.0], [0.0]), b=batch_norm([2.0, 2.0], [0.0, -50.0])))
    low = [torch.full((2, 1, 3, 3), -100.0).double(), torch.full((2, 2, 2, 2), -100.0).double()]
    for norms, taps in ((None, [Tap('a'), Tap('b')]), (['a', 'b'], None), (('a', 'b'), [Tap('a'), Tap('b')])):
        connector = OFDTeacherConnector(norms)
        connector.bind(network, taps)
        first, second = connector(low)
        assert first.unique().tolist() == pytest.approx([-math.sqrt(2 / math.pi)])
        assert second[0, :, 0, 0].tolist() == pytest.approx([-2 * math.sqrt(2 / math.pi), -50.0])
        assert "norms=['a', 'b']" in repr(connector)


def test_margins_are_no_parameters_stand_in_no_checkpoint_and_follow_the_module():
    connector = bound()
    assert not list(connector.parameters())
    assert not connector.state_dict()
    assert connector.half()(torch.zeros(1, 7, 1, 1).half()).dtype == torch.half
    assert bound(batch_norm().float())(torch.zeros(1, 7, 1, 1)).dtype == torch.float


def mmpretrain_resnet(depth):
    return MODELS.build(dict(type='mmpretrain.ResNet', depth=depth))


def projecting():
    return CifarResNet(8, shortcut='B')


def activations(network, *paths):
    """Return the output of each module in one forward pass."""
    seen = {}
    handles = [
        network.get_submodule(path).register_forward_hook(lambda m, a, out, path=path: seen.update({path: out.clone()}))
        for path in paths
    ]
    network.eval()  # mmpretrain's returns None
    network(torch.randn(2, 3, 32, 32))
    for handle in handles:
        handle.remove()
    return [seen[path] for path in paths]


def read_input(network, path, call=0):
    inputs = []
    handle = network.get_submodule(path).register_forward_pre_hook(lambda m, args: inputs.append(args[0].clone()))
    torch.manual_seed(1)
    network.eval()  # mmpretrain's returns None
    network(torch.randn(2, 3, 32, 32))
    handle.remove()
    return inputs[call]


@pytest.mark.parametrize(
    ('network', 'tap', 'expected'),
    [
        (lambda: CifarVGG(8), Tap('features.6', read='input'), 'features.5'),
        (lambda: CifarVGG(8), Tap('features.6', call=0, read='input'), 'features.5'),
        (lambda: CifarVGG(8), Tap('features.5'), 'features.5'),
        (lambda: CifarResNet(20), Tap('relu', read='input'), 'bn1'),
        (lambda: WideResNet(10, 1), Tap('layer2.0.relu1', read='input'), 'layer2.0.bn1'),
        (lambda: WideResNet(10, 1), Tap('relu', read='input'), 'bn'),
    ],
)
def test_where_the_tap_reads_what_a_bn_gives_it_is_that_bn(network, tap, expected):
    network = network()
    assert norm_before(network, tap) == expected
    if tap.read == 'input':
        torch.manual_seed(1)
        (normed,) = activations(network, expected)
        torch.testing.assert_close(read_input(network, tap.path), normed)


@pytest.mark.parametrize(
    ('network', 'tap', 'expected', 'shortcut'),
    [
        (lambda: CifarResNet(20), Tap('layer2.2.relu', read='input'), 'layer2.2.bn2', 'layer2.1'),
        (projecting, Tap('layer2.0.relu', read='input'), 'layer2.0.bn2', 'layer2.0.shortcut'),
        (lambda: CifarResNet(29, 'bottleneck'), Tap('layer3.2.relu', read='input'), 'layer3.2.bn3', 'layer3.1'),
        (lambda: mmpretrain_resnet(50), Tap('layer4.2.relu', 2, 'input'), 'layer4.2.bn3', 'layer4.1'),
        (lambda: mmpretrain_resnet(18), Tap('layer4.0.relu', 1, 'input'), 'layer4.0.bn2', 'layer4.0.downsample'),
        (resnet18, Tap('layer4.1.relu', 1, 'input'), 'layer4.1.bn2', 'layer4.0'),
        (resnet18, Tap('layer4.0.relu', 1, 'input'), 'layer4.0.bn2', 'layer4.0.downsample'),
    ],
)
def test_in_a_residual_block_it_is_the_last_one_before_the_sum(network, tap, expected, shortcut):
    network = network()
    assert norm_before(network, tap) == expected
    torch.manual_seed(1)
    normed, passed = activations(network, expected, shortcut)
    torch.testing.assert_close(read_input(network, tap.path, tap.call or 0), normed + passed)


@pytest.mark.parametrize(
    ('tap', 'network'),
    [
        (Tap('layer1.2.relu'), CifarResNet(20)),  # behind the ReLU
        (Tap('layer1.2'), CifarResNet(20)),
        (Tap('features.1', read='input'), CifarVGG(8, batch_norm=False)),
        (Tap('layer4.1.relu', 5, 'input'), resnet18()),
    ],
)
def test_a_tap_behind_no_bn_is_refused(tap, network):
    with pytest.raises(ValueError, match=r"no BN found for tap '.*'.*, which should be the output of a BN or the"):
        OFDTeacherConnector().bind(network, tap)


def test_mistakes():
    with pytest.raises(ValueError, match=r"name the teacher's BN in front of each tap: norms="):
        OFDTeacherConnector().bind(nn.Sequential(batch_norm()))
    with pytest.raises(ValueError, match=r"one BN per tap expected, got \['0'\] for 2 taps"):
        OFDTeacherConnector('0').bind(nn.Sequential(batch_norm()), [Tap('0'), Tap('0')])
    with pytest.raises(KeyError, match=r"no module 'bn2' \(nearest: bn1"):
        OFDTeacherConnector(['bn2']).bind(CifarResNet(20))
    with pytest.raises(ValueError, match="'0' must be a BatchNorm with weight and bias, it is ReLU"):
        OFDTeacherConnector(['0']).bind(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="'0' must be a BatchNorm with weight and bias, it is BatchNorm2d"):
        OFDTeacherConnector(['0']).bind(nn.Sequential(nn.BatchNorm2d(3, affine=False)))
    with pytest.raises(ValueError, match=r'1 features but no BN: bind\(network\) comes first'):
        OFDTeacherConnector('0')(torch.zeros(1, 7, 2, 2))
    with pytest.raises(ValueError, match=r"2 features but 1 BNs: \['0'\]"):
        bound()([torch.zeros(1, 7, 2, 2)] * 2)
    with pytest.raises(ValueError, match=r"the BN '0' has 7 channels, the feature is \(1, 3, 2, 2\)"):
        bound()(torch.zeros(1, 3, 2, 2))
