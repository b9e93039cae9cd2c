import pytest
import torch
from torch import nn

from mmrecast.blocks import ConvBlock, SourceInfo
from mmrecast.models import build_network
from mmrecast.surgery.chain import find_chain, infer_stride, match


def full_state(net):
    """Return everything a dry run could change: parameters, buffers, modes, requires_grad, hooks."""
    return dict(
        tensors={k: v.clone() for k, v in (*net.named_parameters(), *net.named_buffers())},
        modes=[m.training for m in net.modules()],
        grads=[(p.requires_grad, p.grad) for p in net.parameters()],
        hooks=[len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
        random=torch.get_rng_state(),
    )


def assert_same(a, b):
    for key in ('modes', 'grads', 'hooks'):
        assert a[key] == b[key], key
    assert a['tensors'].keys() == b['tensors'].keys()
    assert all(torch.equal(v, b['tensors'][k]) for k, v in a['tensors'].items())
    assert torch.equal(a['random'], b['random'])


def test_every_librarys_network_is_a_chain(library_net):
    net, shape, pattern = library_net
    chain = find_chain(net, shape)
    backbone = getattr(net, 'backbone', net)
    prefix = 'backbone.' if backbone is not net else ''
    stages = [f'layer{s}' for s in range(1, 5) if hasattr(backbone, f'layer{s}')]
    assert chain.paths == [f'{prefix}{s}.{b}' for s in stages for b in range(len(getattr(backbone, s)))]
    assert (chain.breaks, chain.left_out, chain.num_classes, chain.input_shape) == ({}, {}, 5, shape)
    for before, block in zip(chain.blocks, chain.blocks[1:], strict=False):
        assert before.out_shape == block.in_shape and before.glue == ()
    for block in chain.blocks:
        assert block.source.stride == block.in_shape[1] // block.out_shape[1]
        assert (block.source.in_channels, block.source.out_channels) == (block.in_shape[0], block.out_shape[0])
        assert block.source.mid_channels * (4 if block.source.kind == 'bottleneck' else 1) == block.out_shape[0]
    assert find_chain(net, shape, (pattern,)) == chain


def test_torchvision_resnet50_by_hand():
    net = build_network(dict(type='TorchvisionClassifier', name='resnet50', num_classes=7))
    chain = find_chain(net, (3, 64, 64))
    assert chain.paths == [f'layer{s}.{b}' for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(n)]
    assert chain.stem == ('conv1', 'bn1', 'relu', 'maxpool')
    assert chain.blocks[-1].glue == ('avgpool', 'fc')
    block = chain.blocks[7]
    assert (block.path, block.type, block.why) == ('layer3.0', 'Bottleneck', '')
    assert (block.in_shape, block.out_shape) == ((512, 8, 8), (1024, 4, 4))
    assert block.source == SourceInfo('bottleneck', 512, 1024, 2, 256)
    assert chain.num_classes == 7


@pytest.mark.parametrize(
    ('depth', 'block', 'shortcut', 'blocks'),
    [(20, 'basic', 'A', 9), (20, 'basic', 'B', 9), (56, 'basic', 'A', 27), (83, 'bottleneck', 'A', 27),
     (83, 'bottleneck', 'B', 27)],
)  # fmt: skip
def test_cifar_resnets_by_hand(toys, depth, block, shortcut, blocks):
    chain = find_chain(build_network(toys.cifar(depth, block, shortcut)), (3, 32, 32))
    expansion = 4 if block == 'bottleneck' else 1
    assert [b.out_shape[0] for b in chain.blocks] == [
        width * expansion for width in (16, 32, 64) for _ in range(blocks // 3)
    ]
    assert [b.path for b in chain.blocks if b.source.stride == 2] == ['backbone.layer2.0', 'backbone.layer3.0']
    assert chain.stem == ('backbone.conv1', 'backbone.bn1', 'backbone.relu')
    assert chain.blocks[-1].glue == ('neck.gap', 'head.fc')
    assert {b.source.kind for b in chain.blocks} == {block}


def test_blocks_of_unknown_class_are_found_by_their_names(toys):
    net = toys.sequential()
    assert find_chain(net, (3, 8, 8)).blocks == ()
    chain = find_chain(net, (3, 8, 8), ('1', '2', '3'))
    assert [b.source for b in chain.blocks] == [
        SourceInfo('module', 4, 4, 1), SourceInfo('module', 4, 8, 2), SourceInfo('module', 8, 8, 1),
    ]  # fmt: skip
    assert chain.stem == ('0',) and chain.blocks[-1].glue == ('4', '5', '6')
    assert find_chain(net, (3, 8, 8), ('2',)) == chain  # others of the same class belong to it


def test_glue_between_blocks_is_shown(toys):
    net = toys.sequential(between=(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)))
    chain = find_chain(net, (3, 16, 16), ('1',))
    assert chain.paths == ['1', '5', '6']
    assert [b.glue for b in chain.blocks] == [('2', '3', '4'), (), ('7', '8', '9')]
    assert chain.blocks[1].in_shape == (4, 8, 8)


def test_outermost_known_modules_are_blocks_unless_inner_ones_are_named():
    net = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=5))
    assert find_chain(net, (3, 32, 32), ('layer1',)).paths[:2] == ['layer1', 'layer2.0']
    net = nn.Sequential(ConvBlock(3, 4), ConvBlock(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    inner = find_chain(net, (3, 8, 8), ('1.conv',))
    assert inner.paths == ['0', '1.conv'] and (inner.blocks[1].span, inner.blocks[1].glue) == (
        ('1.bn', '1.relu'),
        ('2', '3'),
    )


def concatenating(net, x):
    a = net.blocks[0](x)
    return net.wide(torch.cat([x, a], 1))


def dense(net, x):
    a = net.blocks[0](x)
    b = net.blocks[1](a)
    return net.blocks[3](net.wide(torch.cat([a, b], 1)))


def long_skip(net, x):
    a = net.blocks[0](x)
    return net.blocks[3](net.blocks[2](net.blocks[1](a)) + a)


def to_the_head(net, x):
    a = net.blocks[0](x)
    return net.blocks[1](a) + a


def from_the_image(net, x):
    return net.blocks[1](net.blocks[0](x) + x)


def parallel(net, x):
    return net.blocks[0](x) + net.blocks[1](x)


def cut_off(net, x):
    return net.blocks[1](net.blocks[0](x).detach())


@pytest.mark.parametrize(
    ('wiring', 'named', 'message'),
    [
        (concatenating, 'wide', "'wide' is not fed by 'blocks.0' alone (the image reaches it past 'blocks.0')"),
        (dense, 'wide', "'wide' is not fed by 'blocks.1' alone (blocks.0 reaches it past 'blocks.1')"),
        (dense, 'blocks.1', "'wide' is not fed by 'blocks.1' alone (blocks.0 reaches it past 'blocks.1')"),
        (long_skip, 'blocks.3', "'blocks.3' is not fed by 'blocks.2' alone (blocks.0 reaches it past 'blocks.2')"),
        (long_skip, 'blocks.2', "'blocks.3' is not fed by 'blocks.2' alone (blocks.0 reaches it past 'blocks.2')"),
        (to_the_head, 'blocks.1', "'logits' is not fed by 'blocks.1' alone (blocks.0 reaches it past 'blocks.1')"),
        (from_the_image, 'blocks.1', "'blocks.1' is not fed by 'blocks.0' alone (the image reaches it past"),
        (
            parallel, 'blocks.1',
            "(the output of 'blocks.0' does not reach it; the image reaches it past 'blocks.0')",
        ),
        (cut_off, 'blocks.1', "(the output of 'blocks.0' does not reach it)"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused(toys, wiring, named, message):
    net = toys.Wired(wiring)
    with pytest.raises(ValueError, match='the blocks around .* are not a chain: ') as caught:
        find_chain(net, (3, 8, 8), (named,))
    assert message in str(caught.value) and '\n' not in str(caught.value)
    assert find_chain(net, (3, 8, 8)).blocks == ()  # what nobody asked for is no error


def test_a_break_elsewhere_is_noted_only(toys):
    chain = find_chain(toys.Wired(long_skip), (3, 8, 8), ('blocks.0',))
    assert chain.paths == ['blocks.0', 'blocks.1', 'blocks.2', 'blocks.3']
    assert list(chain.breaks) == ['blocks.3']


def test_a_skip_inside_the_glue_is_no_break(toys):
    net = toys.Wired(lambda net, x: net.blocks[1]((lambda a: a * a.mean((2, 3), True) + a)(net.blocks[0](x))))
    assert find_chain(net, (3, 8, 8), ('blocks.0',)).breaks == {}


def twice(net, x):
    return net.blocks[1](net.blocks[0](net.blocks[0](x)))


def test_blocks_called_twice_or_never_or_with_more_than_a_map(toys):
    net = toys.Wired(twice)
    with pytest.raises(ValueError, match=r"block 'blocks.0' \(Block\) is called 2 times in one forward pass, a block"):
        find_chain(net, (3, 8, 8), ('blocks.0',))
    with pytest.raises(ValueError, match=r"block 'blocks.2' \(Block\) is called 0 times"):
        find_chain(net, (3, 8, 8), ('blocks.2',))
    chain = find_chain(net, (3, 8, 8), ('blocks.1',))
    assert chain.paths == ['blocks.1']
    assert chain.stem == ('stem', *2 * ('blocks.0.conv', 'blocks.0.norm'))
    assert chain.left_out['blocks.2'].startswith('is called 0 times')
    with pytest.raises(ValueError, match="'blocks.0' is not in the chain: is called 2 times"):
        chain.index('blocks.0')
    with pytest.raises(ValueError, match="'fc' selects no block but Linear: a source is a convolution"):
        find_chain(net, (3, 8, 8), ('fc',))
    with pytest.raises(ValueError, match="no block 'blocks.9' in the chain .nearest: blocks.1"):
        chain.index('blocks.9')


def test_a_block_that_changes_its_input_in_place_is_no_trouble():
    class PreActivation(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(torch.relu_(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), PreActivation(), PreActivation(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_chain(net, (3, 8, 8), ('1',)).paths == ['1', '2']


def test_a_block_without_a_stride_cannot_be_a_source():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    block = find_chain(net, (3, 8, 8), ('1',)).blocks[0]
    assert block.source is None
    assert block.why == 'no stride turns its input (4, 8, 8) into its output (4, 6, 6)'


def test_patterns():
    paths = ['a.layer1.0', 'a.layer1.1', 'a.layer1.1.conv', 'a.layer2.0', 'b']
    assert match('a.layer1.*', paths) == ['a.layer1.0', 'a.layer1.1']
    assert match('a.layer*.0', paths) == ['a.layer1.0', 'a.layer2.0']
    assert match('*', paths) == ['b']
    assert match('a.layer2.0', paths) == ['a.layer2.0']
    with pytest.raises(ValueError, match=r"pattern 'a.layr1.\*' matches nothing \(nearest: a.layer1"):
        match('a.layr1.*', paths)
    with pytest.raises(ValueError, match=r"block path 'a.layer1' matches nothing \(nearest: a.layer1"):
        match('a.layer1', paths)


def test_named_blocks_must_exist_and_not_overlap():
    net = build_network(dict(type='TorchvisionClassifier', name='resnet18', num_classes=5))
    with pytest.raises(ValueError, match=r"block path 'layer1.7' matches nothing \(nearest: layer1.1, layer1.0"):
        find_chain(net, (3, 32, 32), ('layer1.7',))
    with pytest.raises(ValueError, match=r"pattern 'layer9.\*' matches nothing \(nearest: "):
        find_chain(net, (3, 32, 32), ('layer9.*',))
    with pytest.raises(ValueError, match="blocks 'layer1' and 'layer1.0' overlap: name one of them"):
        find_chain(net, (3, 32, 32), ('layer1.*', 'layer1'))


def test_what_is_no_classifier_is_refused(toys):
    with pytest.raises(ValueError, match=r'CifarResNet should give logits \(N, classes\) but gave tuple'):
        find_chain(build_network(dict(type='CifarResNet', depth=8)), (3, 16, 16))
    with pytest.raises(ValueError, match=r'Sequential should give logits \(N, classes\) but gave \(2, 4, 8, 8\)'):
        find_chain(nn.Sequential(nn.Conv2d(3, 4, 1)), (3, 8, 8))
    with pytest.raises(ValueError, match=r'Sequential does not take an input of \(1, 8, 8\): Given groups=1, weight'):
        find_chain(toys.sequential(), (1, 8, 8))

    class Asserting(nn.Module):
        def forward(self, x):
            raise AssertionError

    with pytest.raises(ValueError, match=r'Asserting does not take an input of \(3, 8, 8\): AssertionError'):
        find_chain(Asserting(), (3, 8, 8))


@pytest.mark.parametrize('training', [True, False])
def test_a_dry_run_leaves_no_trace(library_net, training):
    net, shape, pattern = library_net
    net.train(training)
    next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).train(not training)
    next(net.parameters()).requires_grad_(False)
    before = full_state(net)
    find_chain(net, shape, (pattern,))
    assert_same(before, full_state(net))


@pytest.mark.parametrize('wiring', [long_skip, twice, lambda net, x: 1 / 0, lambda net, x: net.fc(net.blocks[1](x))])
def test_a_dry_run_that_fails_leaves_no_trace(toys, wiring):
    net = toys.Wired(wiring).train()
    net.blocks[1].eval()
    before = full_state(net)
    with pytest.raises(ValueError):
        find_chain(net, (3, 8, 8), ('blocks.*',))
    assert_same(before, full_state(net))


@pytest.mark.parametrize(
    ('before', 'after', 'stride'),
    [((8, 8), (8, 8), 1), ((8, 8), (4, 4), 2), ((7, 9), (4, 5), 2), ((8, 8), (2, 2), 4), ((1, 1), (1, 1), 1),
     ((8, 8), (6, 6), None), ((8, 8), (16, 16), None), ((8, 8), (8, 4), None)],
)  # fmt: skip
def test_stride_agrees_with_a_padded_convolution(before, after, stride):
    assert infer_stride((3, *before), (3, *after)) == stride
    if stride:
        out = nn.Conv2d(3, 3, 3, stride, 1)(torch.zeros(1, 3, *before))
        assert tuple(out.shape[2:]) == after
