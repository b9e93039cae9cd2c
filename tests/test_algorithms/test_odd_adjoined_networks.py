"""Networks of a user's own under an adjoined pair: never silently wrong, what cannot be is told."""

import copy
import warnings

import pytest
import torch
from adjoined_pairs import pair_of, train
from hand_networks import FREE, SHAPE, Net, bn, build, conv, fc, pooled
from tiny import differing, tensors
from torch import nn
from torchvision import models

from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups, divisors_for
from mmrecast.surgery.widths import LayerWidths, Widths, narrow, widths_of

IMAGE = (3, 32, 32)


def check(network, names=None, shape=SHAPE, divisor=2):
    """Train a pair of ``network`` and compare what is extracted; return pair and images."""
    graph = trace_channels(network, shape)
    names = names or [n for n, g in graph.groups.items() if not g.fixed and not any(m % 2 for m in g.multiples)]
    images = torch.randn(4, *shape)
    pair = train(AdjoinedPair(network, widths_of(graph, dict.fromkeys(names, divisor))), images).eval()
    with torch.no_grad():
        assert torch.equal(pair.extract()(images), pair(images))
    return pair, images


def test_a_module_under_two_names():
    """It is one module, in the extracted network as well, and both of its calls use its weights."""
    layer, norm = conv(8, 8), bn(8)
    network = Net(
        lambda m, x: m.fc(pooled(m.e(m.c(m.d(m.b(m.a(x)))).relu()))),
        a=conv(3, 8), b=layer, c=layer, d=norm, e=norm, fc=fc(8),
    )  # fmt: skip
    pair, _ = check(network)
    small = pair.extract()
    assert small.b is small.c and small.d is small.e and small.b.weight.shape == (4, 4, 3, 3)
    assert torch.equal(small.b.weight, network.b.weight[:4, :4]) and len(pair.norms) == 1


def test_one_parameter_of_two_modules():
    """Tied weights stay tied to what trains, whether the layers narrow or not."""
    network = Net(
        lambda m, x: m.fc(pooled(m.e(m.d(m.c(m.b(m.a(x)).relu())).relu()).relu())),
        a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(8, 8), e=conv(8, 8), fc=fc(8),
    )  # fmt: skip
    network.c.weight = network.b.weight
    network.e.weight = network.d.weight
    pair, images = check(network, ['a', 'b', 'c'])
    small = pair.extract()
    assert torch.equal(small.c.weight, network.b.weight[:4, :4]) and torch.equal(small.e.weight, network.d.weight)
    pair.zero_grad()
    pair(images).sum().backward()
    one = network.b.weight.grad.clone()
    plain = narrow(copy.deepcopy(network), pair.widths).eval()
    plain(images).sum().backward()
    torch.testing.assert_close(one[:4, :4], plain.b.weight.grad + plain.c.weight.grad)


def test_lists_of_parameters_and_computed_weights():
    """Parameters that stand in lists are shared as a whole; weights with a norm of their own keep their width."""
    network = Net(
        lambda m, x: m.fc(pooled(m.c(m.b(m.scales[0] * m.a(x).relu() * m.scales[1]).relu()))),
        a=conv(3, 8), b=nn.utils.parametrizations.weight_norm(conv(8, 8)), c=conv(8, 8), fc=fc(8),
        scales=nn.ParameterList([torch.tensor(1.5), torch.tensor([0.5])]),
    )  # fmt: skip
    graph = trace_channels(network, SHAPE)
    assert {name: bool(group.fixed) for name, group in graph.groups.items()} == dict(a=True, c=False, fc=True)
    pair, images = check(network)
    pair.zero_grad()
    pair(images).sum().backward()
    assert network.scales[0].grad != 0 and network.b.parametrizations.weight.original0.grad.abs().sum() > 0


def test_weights_with_the_old_kinds_of_norm():
    from torch.nn.utils import spectral_norm

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        old = nn.utils.weight_norm(conv(8, 8))
    network = Net(
        lambda m, x: m.fc(pooled(m.d(m.c(m.b(m.a(x)).relu()).relu()))),
        a=conv(3, 8), b=old, c=spectral_norm(conv(8, 8)), d=conv(8, 8), fc=fc(8),
    )  # fmt: skip
    check(network, ['d'])


def test_synchronised_frozen_and_other_norms():
    """SyncBatchNorm narrows (and says itself that it trains on GPUs only); frozen and group norms are held."""
    network = models.resnet18(num_classes=10)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    pair = pair_of(synced, IMAGE, 4, above=64).eval()
    images = torch.randn(2, *IMAGE)
    with torch.no_grad():
        assert torch.equal(pair.extract()(images), pair(images))
    from torchvision.ops import FrozenBatchNorm2d

    for norm, said in (
        (lambda channels: nn.GroupNorm(8, channels), "group_norm in GroupNorm 'bn1' does not keep"),
        (FrozenBatchNorm2d, "mul in FrozenBatchNorm2d 'bn1' does not keep"),
    ):
        network = models.resnet18(num_classes=10, norm_layer=norm)
        graph = trace_channels(network, (3, 64, 64))
        assert all(group.fixed for group in graph.groups.values()) and said in graph.groups['conv1'].fixed
        with pytest.raises(
            ValueError, match=r'no layer to adjoin: 15 groups are wide enough but cannot narrow; .* held'
        ):
            divisors_for(graph, 2, rule='basic')


def test_norms_that_stay_in_evaluation():
    """A frozen BN of the user's trains neither statistics nor, in either path, anything else it should not."""
    network = build(FREE, 'plain')
    pair = pair_of(network)
    pair.train()
    network.n1.eval(), pair.norms['n1'].eval()
    before = tensors(pair)
    pair.both(torch.randn(4, *SHAPE))
    assert {name.split('.')[-2] for name in differing(before, tensors(pair))} == {'n2'}


def test_one_dimensional_and_transposed_convolutions():
    up = nn.ConvTranspose2d(8, 8, 2, 2)
    network = Net(
        lambda m, x: m.fc(pooled(m.c(m.up(m.b(m.a(x)).relu())))),
        a=conv(3, 8), b=conv(8, 8), up=up, c=conv(8, 8), fc=fc(8),
    )  # fmt: skip
    pair, _ = check(network)
    assert set(pair.widths.layers) == {'a', 'b', 'c', 'fc'} and pair.widths.layers['b'].outputs == ((0, 8),)
    flat = nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.Flatten(), nn.Linear(480, 10)
    )
    with pytest.raises(ValueError, match='no layer to adjoin: the network has no convolution whose channels could be'):
        adjoined_groups(trace_channels(flat, SHAPE), above=4)


def test_numbers_of_channels_in_a_forward():
    """They do not narrow: an error says so, whether the network stops or would give something else."""
    for run in (
        lambda m, x: m.fc(m.b(m.a(x)).mean((2, 3)).view(-1, 12)),
        lambda m, x: m.fc(pooled(m.b(m.a(x).view(-1, 8, 8, 8)))),
    ):
        with pytest.raises(ValueError, match='^Net cannot be run with fewer channels .is a .*exclude= keeps') as caught:
            pair_of(Net(run, a=conv(3, 8), b=conv(8, 12), fc=fc(12)))
        assert '\n' not in str(caught.value)
    fewer = Widths(dict(fc=LayerWidths(((0, 12),), ((0, 5),))), SHAPE)
    with pytest.raises(ValueError, match=r'^Net with fewer channels gives \(2, 5\) in place of \(2, 10\)$'):
        AdjoinedPair(build(FREE, 'plain'), fewer)


def test_networks_that_check_the_version_of_their_weights():
    """torchvision's MnasNet refuses weights that are loaded without it."""
    pair = pair_of(models.mnasnet0_5(num_classes=10), IMAGE, above=64).eval()
    images = torch.randn(2, *IMAGE)
    with torch.no_grad():
        assert torch.equal(pair.extract()(images), pair(images))


def test_widths_that_are_not_of_the_network():
    with pytest.raises(ValueError, match="the widths do not fit Net: Net has no module 'layer1'"):
        AdjoinedPair(build(FREE, 'plain'), Widths({'layer1': LayerWidths(((0, 1),), ((0, 1),))}, SHAPE))
    torn = Widths(dict(a=LayerWidths(((0, 3),), ((0, 4),))), SHAPE)  # what reads it is left as it was
    with pytest.raises(ValueError, match='Net cannot be run with fewer channels'):
        AdjoinedPair(build(FREE, 'plain'), torn)


class TwoHeads(nn.Module):
    """A classifier that gives a second output while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = conv(3, 8), fc(8)

    def forward(self, x):
        logits = self.fc(pooled(self.a(x)))
        return (logits, logits) if self.training else logits


def test_heads_that_run_in_training_alone():
    with pytest.raises(ValueError, match='TwoHeads gives tuple in training, a tensor of logits is needed: build it wi'):
        check(TwoHeads(), ['a'])
    network = models.googlenet(num_classes=10, aux_logits=True, init_weights=False)
    graph = trace_channels(network, (3, 64, 64))
    with pytest.raises(ValueError, match='aux_logits=False'):
        AdjoinedPair(network, widths_of(graph, dict.fromkeys(adjoined_groups(graph), 4)))
