"""Which channels depend on which: small networks whose answer is known, and what a dry run must leave as it was."""

import warnings

import pytest
import torch
from hand_networks import FREE, SHAPE, Net, bn, build, conv, fc, pooled
from held_networks import HELD
from tiny import differing, tensors
from torch import nn

from mmrecast.surgery.channel_graph import Layer, Segment, size
from mmrecast.surgery.channels import trace_channels


@pytest.mark.parametrize('name', FREE)
def test_what_narrows_together(name):
    graph = trace_channels(build(FREE, name), SHAPE)
    assert {group.name: ' '.join(group.layers) for group in graph.groups.values() if not group.fixed} == FREE[name][2]
    assert {group.name: group.fixed for group in graph.groups.values() if group.fixed} == {
        'fc': "it is the network's output"
    }


@pytest.mark.parametrize('name', HELD)
def test_what_is_not_understood_keeps_its_width(name):
    *_, held, said = HELD[name]
    groups = trace_channels(build(HELD, name), SHAPE).groups
    assert {name for name, group in groups.items() if group.fixed} == {*held.split(), 'fc'}
    for group in held.split():
        assert said in groups[group].fixed


def test_layers_know_their_segments():
    """Two convolutions side by side, a depthwise one with two filters per channel, a flattened map."""
    network = Net(
        lambda m, x: m.fc(m.d(m.n(torch.cat([m.a(x), m.b(x)], 1))).flatten(1)),
        a=conv(3, 4), b=conv(3, 6), n=bn(10), d=nn.Conv2d(10, 20, 3, 2, 1, groups=10), fc=fc(20 * 16),
    )  # fmt: skip
    graph = trace_channels(network, SHAPE)
    image, both = (Segment('the image', 3),), (Segment('a', 4), Segment('b', 6))
    doubled = (Segment('a', 4, 2), Segment('b', 6, 2))
    assert graph.layers == dict(
        a=Layer('a', 'conv', image, (Segment('a', 4),), 1, 9, 64),
        b=Layer('b', 'conv', image, (Segment('b', 6),), 1, 9, 64),
        n=Layer('n', 'norm', both, both),
        d=Layer('d', 'conv', both, doubled, 10, 9, 16),
        fc=Layer('fc', 'linear', (Segment('a', 4, 32), Segment('b', 6, 32)), (Segment('fc', 10),)),
    )
    assert graph.layers['d'].depthwise and not graph.layers['a'].depthwise
    assert size(doubled) == 20 and graph.input_shape == SHAPE


def test_numbers_that_a_divisor_must_divide():
    groups = trace_channels(build(FREE, 'grouped'), SHAPE).groups
    assert (groups['a'].widths, groups['a'].multiples) == ((8, 16), (4, 8, 16))
    groups = trace_channels(build(FREE, 'depthwise, multiplier 2'), SHAPE).groups
    assert (groups['a'].widths, groups['a'].multiples) == ((4,), (4,))


def test_calls_of_one_layer_add_up():
    graph = trace_channels(build(FREE, 'layer called twice'), SHAPE)
    assert graph.layers['b'].positions == 2 * 64 and graph.layers['a'].positions == 64
    assert list(graph.layers) == ['a', 'b', 'n', 'fc']


def test_a_module_under_two_names_is_one_layer():
    shared = conv(8, 8)
    network = Net(lambda m, x: m.fc(pooled(m.c(m.b(m.a(x)).relu()))), a=conv(3, 8), b=shared, c=shared, fc=fc(8))
    graph = trace_channels(network, SHAPE)
    assert graph.groups['a'].layers == ('a', 'b') and 'c' not in graph.layers


def test_the_network_is_left_as_it_was():
    network = build(FREE, 'dropout')
    network.n = bn(8).eval()
    network.run = lambda m, x: m.fc(pooled(m.b(m.n(m.drop(m.a(x))))))
    network.a.weight.requires_grad_(False)
    network.b.weight.grad = torch.ones_like(network.b.weight)
    seen = []
    handle = network.b.register_forward_hook(lambda *_: seen.append(1))
    network.train()
    network.n.eval()
    before, modes = tensors(network), [m.training for m in network.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    trace_channels(network, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert not differing(before, tensors(network)) and [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()].count(False) == 1 and network.b.weight.grad.sum() == 12 * 72
    assert seen == [1]  # a hook of one's own still runs, and the tracer's are gone
    handle.remove()
    for module in network.modules():
        assert not (module._forward_hooks or module._forward_pre_hooks or module._forward_hooks_always_called)
    with pytest.raises(ValueError, match='cannot be run'):
        trace_channels(network, (1, 8, 8))
    for module in network.modules():
        assert not (module._forward_hooks or module._forward_pre_hooks or module._forward_hooks_always_called)
    assert [m.training for m in network.modules()] == modes


def test_weights_that_are_computed_at_every_call():
    """weight_norm, spectral_norm and pruning of the old kind hang the result on the module as a plain tensor."""
    from torch.nn.utils import prune, spectral_norm

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # it is old, but it is met
        old = nn.utils.weight_norm(conv(8, 12))
    for layer in (old, spectral_norm(conv(8, 12)), prune.l1_unstructured(conv(8, 12), 'weight', 0.5)):
        network = Net(lambda m, x: m.fc(pooled(m.b(m.a(x).relu()))), a=conv(3, 8), b=layer, fc=fc(12))
        graph = trace_channels(network, SHAPE)
        assert graph.groups['a'].fixed == "conv2d in Conv2d 'b' does not keep the channels apart"
        assert 'b' not in graph.layers


def test_half_and_double_precision():
    for dtype in (torch.float64, torch.bfloat16):
        assert list(trace_channels(build(FREE, 'plain').to(dtype), SHAPE).groups) == ['a', 'b', 'fc']


@pytest.mark.parametrize(
    ('run', 'shape', 'said'),
    [
        (lambda m, x: (m.fc(pooled(m.a(x))), x), SHAPE, '^Net must give one tensor of logits, got a tuple$'),
        (lambda m, x: dict(out=m.fc(pooled(m.a(x)))), SHAPE, '^Net must give one tensor of logits, got a dict$'),
        (lambda m, x: m.fc(pooled(m.a(x))), (4, 8, 8), r'^Net cannot be run on input shape \(4, 8, 8\): .*3 channels'),
        (lambda m, x: m.fc(m.a(x).flatten(1)), SHAPE, r'^Net cannot be run on input shape \(3, 8, 8\): mat1 and mat2'),
        (lambda m, x: m.fc(torch.from_numpy(pooled(m.a(x)).numpy())), SHAPE,
         '^the channels of Net cannot be followed through NumPy, TorchScript or such$'),
    ],
)  # fmt: skip
def test_what_cannot_be_followed(run, shape, said):
    with pytest.raises(ValueError, match=said):
        trace_channels(Net(run, a=conv(3, 8), fc=fc(8)), shape)


def test_two_heads():
    """Each head is read by the output; what comes before both may narrow."""
    network = Net(
        lambda m, x: torch.cat([m.f(y := m.b(m.a(x)).mean((2, 3))), m.g(y)], 1),
        a=conv(3, 8), b=conv(8, 12), f=fc(12, 10), g=fc(12, 4),
    )  # fmt: skip
    groups = trace_channels(network, SHAPE).groups
    assert {name: group.fixed for name, group in groups.items()} == dict(
        a='', b='', f="it is the network's output", g="it is the network's output"
    )
