"""What is taken away is the narrow path that was trained: on networks of three libraries, ours, and odd ones."""

import copy

import pytest
import torch
from adjoined_pairs import pair_of, train
from hand_networks import FREE, SHAPE, build, zeroed
from held_networks import HELD
from tiny import classifier, differing, tensors
from torch import nn
from torchvision import models

from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.models import build_network
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups
from mmrecast.surgery.widths import narrow, widths_of

IMAGE = (3, 32, 32)


def vgg():
    """Return torchvision's with its flattening of 7x7 places, but a small classifier."""
    network = models.vgg11_bn()
    network.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10))
    return network


def of_mmpretrain(width, neck=dict(type='GlobalAveragePooling'), **backbone):
    head = dict(type='LinearClsHead', num_classes=10, in_channels=width)
    return build_network(dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head))


def recast():
    """Return the student of a recasting into five of our blocks."""
    targets = ['ConvBlock', 'Bottleneck', 'BasicBlock', 'DepthwiseSeparable', 'PreActBasicBlock', 'ConvBlock']
    paths = [f'backbone.layer{stage}.{block}' for stage in (1, 2, 3) for block in (0, 1)]
    recipe = [dict(source=path, target=target) for path, target in zip(paths, targets, strict=True)]
    source = classifier(depth=14, widths=(4, 8, 16))
    return build_network(dict(type='RecastStudent', source=source, recipe=recipe, input_shape=(1, 8, 8)))


LIBRARIES = {  # name: how it is built, the image's shape, how wide a layer may be without being narrowed
    **{
        name: (lambda name=name: models.get_model(name, num_classes=10), IMAGE, 64)
        for name in ('resnet18', 'resnet50', 'mobilenet_v2', 'mobilenet_v3_small', 'densenet121', 'resnext50_32x4d',
                     'efficientnet_b0', 'squeezenet1_1', 'shufflenet_v2_x0_5')
    },
    'vgg11_bn': (vgg, IMAGE, 64),
    'mmpretrain ResNet_CIFAR': (
        lambda: of_mmpretrain(64, type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8), IMAGE, 8
    ),
    'mmpretrain SEResNet': (
        lambda: of_mmpretrain(256, type='SEResNet', depth=50, stem_channels=8, base_channels=8), IMAGE, 8
    ),
    'CifarResNet': (lambda: build_network(classifier(shortcut='B')), (1, 8, 8), 4),
    'CifarResNet, bottlenecks': (
        lambda: build_network(classifier(depth=11, widths=(4, 8, 12), block='bottleneck', shortcut='B')), (1, 8, 8), 4
    ),
    'CifarVGG': (
        lambda: of_mmpretrain(16, type='mmrecast.CifarVGG', depth=8, widths=(8, 8, 16, 16, 16), hidden=16, neck=None),
        IMAGE, 8,
    ),
    'WideResNet': (lambda: of_mmpretrain(64, type='mmrecast.WideResNet', depth=10, widen_factor=1), IMAGE, 16),
    'CifarDenseNet': (
        lambda: of_mmpretrain(16, type='mmrecast.CifarDenseNet', depth=16, growth_rate=4), IMAGE, 4
    ),
    'recast': (recast, (1, 8, 8), 4),
}  # fmt: skip


@pytest.mark.parametrize('name', LIBRARIES)
def test_the_extracted_network_is_the_small_path(registered, name):
    """After training, bit for bit, in both modes; and the full network with zeroed channels gives the same."""
    make, shape, above = LIBRARIES[name]
    torch.manual_seed(0)
    network = make()
    graph = trace_channels(network, shape)
    names = [
        one for one in adjoined_groups(graph, above, 'basic') if not any(n % 2 for n in graph.groups[one].multiples)
    ]
    assert len(names) > 2
    widths = widths_of(graph, dict.fromkeys(names, 2))
    images = torch.randn(4, *shape)
    pair = train(AdjoinedPair(network, widths), images).eval()
    small = pair.extract()
    assert type(small) is type(network) and not small.training
    with torch.no_grad():
        logits = pair(images)
        assert torch.equal(small(images), logits) and logits.std() > 0
        plain = narrow(copy.deepcopy(network), widths)
        expected = zeroed(network, widths)(images)
        torch.testing.assert_close(plain(images), expected, rtol=1e-3, atol=1e-3 * expected.std().item())
        assert torch.equal(logits, plain(images)) != bool(pair.norms)  # which are its own
        pair.train(), small.train()
        torch.manual_seed(1)
        theirs = pair(images)
        torch.manual_seed(1)
        assert torch.equal(small(images), theirs)
        assert not differing(tensors(small), tensors(pair.extract()))  # statistics go on alike
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize('name', [*FREE, *HELD])
def test_networks_written_by_hand(name):
    network = build(FREE if name in FREE else HELD, name)
    graph = trace_channels(network, SHAPE)
    names = [n for n, g in graph.groups.items() if not g.fixed and not any(m % 2 for m in g.multiples)]
    images = torch.randn(4, *SHAPE)
    if name == 'weights of another module':  # a is free, but b is used as a function, too
        with pytest.raises(ValueError, match='^Net cannot be run with fewer channels .is a number of them written in'):
            AdjoinedPair(network, widths_of(graph, dict.fromkeys(names, 2)))
        return
    pair = train(AdjoinedPair(network, widths_of(graph, dict.fromkeys(names, 2))), images).eval()
    with torch.no_grad():
        assert torch.equal(pair.extract()(images), pair(images))


# ---- what is shared, what is not ------------------------------------------------------------------------------------


def test_weights_are_shared_and_norms_are_not():
    network = build(FREE, 'residual sum')
    pair = pair_of(network)
    weights = pair.small_weights()
    assert weights['b.weight'].data_ptr() == network.b.weight.data_ptr() and weights['b.weight'].shape == (6, 4, 3, 3)
    assert weights['fc.bias'] is network.fc.bias and not any(name.startswith('n') for name in weights)
    assert {name for name, _ in pair.named_parameters()} == {
        *(f'full.{name}' for name, _ in network.named_parameters()),
        *(f'norms.n{i}.{name}' for i in (1, 2, 3) for name in ('weight', 'bias')),
    }
    norm = pair.norms['n2']
    assert torch.equal(norm.running_mean, network.n2.running_mean[:6]) and norm.weight is not network.n2.weight
    images = torch.randn(4, *SHAPE)
    mine, theirs = tensors(pair.norms), tensors(network)
    pair.train()(images)
    assert not differing(theirs, tensors(network))  # the small path leaves the full one's statistics
    assert all('running' in name or 'num' in name for name in differing(mine, tensors(pair.norms)))
    mine = tensors(pair.norms)
    network(images)
    assert not differing(mine, tensors(pair.norms)) and differing(theirs, tensors(network))


def test_a_change_of_the_full_network_is_one_of_the_small_one():
    pair = pair_of(build(FREE, 'plain')).eval()
    images = torch.randn(4, *SHAPE)
    before = pair(images)
    with torch.no_grad():
        pair.full.b.weight[6:] += 1.0  # filters that the small one does not have
        assert torch.equal(pair(images), before)
        pair.full.b.weight[:, 4:] += 1.0  # and inputs
        assert torch.equal(pair(images), before)
        pair.full.b.weight[0, 0] += 1.0
        assert not torch.equal(pair(images), before)


def test_copies_devices_and_types():
    pair = train(pair_of(build(FREE, 'concatenation'), above=1), torch.randn(4, *SHAPE)).eval()
    images = torch.randn(4, *SHAPE)
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        expected = pair(images)
        twin.full.a.weight.zero_()
        twin.norms['n1'].bias.zero_()
        assert torch.equal(pair(images), expected) and not torch.equal(twin(images), expected)
        twin.load_state_dict(pair.state_dict())
        assert torch.equal(twin(images), expected)
        twin.double()
        torch.testing.assert_close(twin(images.double()).float(), expected)
        assert torch.equal(twin.extract()(images.double()), twin(images.double()))


def test_modes_of_the_small_path():
    """Dropout draws in training, in each path on its own, and not in evaluation."""
    pair = pair_of(build(FREE, 'dropout')).eval()
    images = torch.randn(4, *SHAPE)
    for _ in range(2):
        pair.train()
        assert not torch.equal(pair(images), pair(images))
        torch.manual_seed(0)
        full, small = pair.both(images)
        torch.manual_seed(0)
        pair.full(images)  # its draws come first
        assert torch.equal(pair(images), small)
        pair.eval()
        assert torch.equal(pair(images), pair(images)) and torch.equal(pair.extract()(images), pair(images))


def test_other_widths_begin_anew():
    network = build(FREE, 'residual sum')
    pair = train(pair_of(network), torch.randn(4, *SHAPE))
    graph = trace_channels(network, SHAPE)
    pair.set_widths(widths_of(graph, dict(a=4)))
    assert torch.equal(pair.norms['n1'].running_mean, network.n1.running_mean[:2])
    assert torch.equal(pair.norms['n2'].weight, network.n2.weight)
    images = torch.randn(4, *SHAPE)
    with torch.no_grad():
        pair.eval()
        assert torch.equal(pair(images), narrow(copy.deepcopy(network), pair.widths)(images))


# ---- kernel masks ---------------------------------------------------------------------------------------------------


def test_masked_kernels():
    """⌊share · places⌋ places of every narrowed convolution, in the small network alone; 1x1 kernels are whole."""
    torch.manual_seed(0)
    network = build(FREE, 'projection shortcut')
    pair = pair_of(network, above=8, kernel_mask=0.5)  # b, c and short read or give fewer channels
    assert set(pair._masks) == {'b.weight', 'c.weight'}
    weights = pair.small_weights()
    zeros = {}
    for name in ('b.weight', 'c.weight'):
        empty = (weights[name] == 0).flatten(2)  # (filters, inputs, places)
        assert (empty == empty[0, 0]).all() and empty[0, 0].sum() == 4  # ⌊0.5 · 9⌋, the same in every pair of channels
        zeros[name] = empty[0, 0].nonzero().flatten().tolist()
    assert zeros['b.weight'] != zeros['c.weight']
    assert (weights['short.weight'] != 0).all() and (network.b.weight != 0).all() and (weights['a.weight'] != 0).all()
    images = torch.randn(4, *SHAPE)
    train(pair, images).eval()
    small = pair.extract()
    assert (small.b.weight.flatten(2)[..., zeros['b.weight']] == 0).all() and (small.b.weight == 0).sum() == 6 * 8 * 4
    with torch.no_grad():
        assert torch.equal(small(images), pair(images))
    network = build(FREE, 'projection shortcut')
    torch.manual_seed(7)
    twin = pair_of(network, above=8, kernel_mask=0.5)
    assert not torch.equal(twin.mask_0, pair.mask_0) or not torch.equal(twin.mask_1, pair.mask_1)
    twin.load_state_dict(pair.state_dict())
    with torch.no_grad():
        assert torch.equal(twin.eval()(images), pair(images))


def test_masked_places_have_gradients_from_the_full_network_alone():
    pair = pair_of(build(FREE, 'plain'), above=8, kernel_mask=0.5)
    images = torch.randn(4, *SHAPE)
    pair(images).square().sum().backward()
    grad, mask = pair.full.b.weight.grad, pair.mask_0.bool()
    assert (grad[:6, :, ~mask] == 0).all() and (grad[:6, :, mask] != 0).any() and (grad[6:] == 0).all()
