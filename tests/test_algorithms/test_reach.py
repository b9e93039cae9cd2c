"""What lies between a cut and a tap."""

import pytest
import torch
from tiny import CHAIN, STEM, classifier
from torch import nn

from mmrecast.algorithms.reach import reached_by
from mmrecast.models import build_network


def names_under(network, paths):
    return {name for name, _ in network.named_parameters() if any(name.startswith(path + '.') for path in paths)}


@pytest.mark.parametrize(
    ('tap', 'cut', 'frozen', 'paths'),
    [
        (CHAIN[2], None, (), STEM + CHAIN[:3]),
        (CHAIN[2], CHAIN[1], (), CHAIN[1:3]),
        (CHAIN[4], CHAIN[4], (), CHAIN[4:5]),
        (None, CHAIN[5], (), [CHAIN[5], 'head.fc']),
        (None, None, ('head.fc', CHAIN[0]), STEM + CHAIN[1:]),
    ],
)
def test_parameters_and_modules(tap, cut, frozen, paths):
    network = build_network(classifier(depth=14, shortcut='B'))
    for number, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    before = [parameter.requires_grad for parameter in network.parameters()]
    parameters, live = reached_by(network, tap, cut, (1, 8, 8), frozen)
    assert parameters == names_under(network, paths)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module in live) == any(name.startswith(path) for path in paths), name
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_nothing_but_the_result_is_left():
    """No hook, no changed mode, no changed statistics."""
    network = build_network(classifier()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reached_by(network, 'backbone.layer2.0', 'backbone.layer1.0', (1, 8, 8))
    assert all(module.training and not module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_the_tap_does_not_read_is_not_reached():
    """A branch beside the tap, called or not, does not train."""

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.idle = (nn.Conv2d(1, 1, 1) for _ in range(4))

        def forward(self, x):
            return (self.a(x) + self.b(self.c(x)).detach()).flatten(1)

    parameters, live = reached_by(network := Branching(), None, None, (1, 2, 2))
    assert parameters == {'a.weight', 'a.bias'}
    assert network.idle not in live


def test_the_wrong_tap():
    with pytest.raises(KeyError, match="no module 'backbone.layer9'"):
        reached_by(build_network(classifier()), 'backbone.layer9', None, (1, 8, 8))
