"""Sources of other kinds than residual blocks: dense blocks of every library, and those of Wide ResNets."""

import copy

import pytest
import torch
from torch import nn

from mmrecast.blocks import DenseBlock, PreActBasicBlock
from mmrecast.models import build_network
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.chain import find_chain
from mmrecast.surgery.describe import describe, rebuild
from mmrecast.surgery.plan import make_plan

MMPRETRAIN = dict(type='DenseNet', arch=dict(growth_rate=4, depths=[2, 2, 2], init_channels=8))
DENSENETS = {  # name -> (config, paths of the dense blocks, one of the transition's convolution)
    'own': (
        lambda toys: toys.classifier(type='mmrecast.CifarDenseNet', depth=16, growth_rate=4, channels=16),
        [f'backbone.block{i}' for i in (1, 2, 3)], 'backbone.transition1.2',
    ),
    'torchvision': (
        lambda toys: dict(type='TorchvisionClassifier', name='densenet121', num_classes=5),
        [f'features.denseblock{i}' for i in (1, 2, 3, 4)], 'features.transition1.conv',
    ),
    'mmpretrain': (
        lambda toys: toys.classifier(**MMPRETRAIN, channels=16),
        [f'backbone.stages.{i}' for i in (0, 1, 2)], 'backbone.transitions.0.conv',
    ),
}  # fmt: skip


@pytest.fixture(params=list(DENSENETS))
def densenet(request, toys):
    cfg, paths, transition = DENSENETS[request.param]
    torch.manual_seed(0)
    return build_network(cfg(toys)).eval(), paths, transition


def test_a_dense_block_is_a_whole_stage_and_transitions_are_glue(densenet):
    net, paths, transition = densenet
    chain = find_chain(net, (3, 64, 64))
    assert chain.paths == paths and transition in chain.blocks[0].glue and not chain.breaks
    assert {(b.source.kind, b.source.stride) for b in chain.blocks} == {('dense', 1)}


@pytest.mark.parametrize('target', ['ConvBlock', 'BasicBlock', 'DepthwiseSeparable'])
def test_dense_blocks_are_recast_with_their_transitions_kept(densenet, target):
    net, paths, transition = densenet
    plan = make_plan(net, [dict(source=paths[:2], target=dict(type=target))], (3, 64, 64))
    student = check_plan(copy.deepcopy(net), plan)
    assert [e.action for e in plan.entries[:3]] == ['recast', 'recast', 'keep']
    assert all(type(student.get_submodule(path)).__name__ == target for path in paths[:2])
    assert torch.equal(student.get_submodule(transition).weight, net.get_submodule(transition).weight)
    kept, own = student.get_submodule(paths[-1]).state_dict(), net.get_submodule(paths[-1]).state_dict()
    assert all(torch.equal(kept[key], own[key]) for key in own)


def test_the_width_before_a_kept_transition_cannot_change(densenet):
    net, paths, transition = densenet
    recipe = [dict(source=paths[0], target=dict(type='ConvBlock', width_ratio=0.5))]
    with pytest.raises(
        ValueError, match=f"width of '{paths[0]}' cannot change: the transition .*'{transition}'.*leave"
    ):
        make_plan(net, recipe, (3, 64, 64))


def test_the_last_dense_block_may_become_narrower(densenet):
    net, paths, _ = densenet
    plan = make_plan(net, [dict(source=paths[-1], target=dict(type='ConvBlock', width_ratio=0.5))], (3, 64, 64))
    student = check_plan(copy.deepcopy(net), plan)
    width = plan.entries[-1].out_shape[0]
    fc = [m for m in student.modules() if isinstance(m, nn.Linear)][-1]
    assert plan.entries[-1].out_channels == width // 2 == fc.in_features


def test_a_dense_block_may_have_fewer_and_wider_layers(toys):
    net = build_network(DENSENETS['own'][0](toys)).eval()
    plan = make_plan(net, [dict(source='backbone.block*', target=dict(type='DenseBlock', growth_rate=8))], (3, 16, 16))
    student = check_plan(copy.deepcopy(net), plan)
    assert len(net.backbone.block1.layers) == 2 and len(student.backbone.block1.layers) == 1


def test_a_dense_block_cannot_be_rebuilt():
    with pytest.raises(ValueError, match='hands its input on, so that it cannot be rebuilt for 6 input channels'):
        rebuild(DenseBlock(8, 16, growth_rate=4), 6)


def test_a_preactivation_block_is_described():
    description = describe(PreActBasicBlock(4, 8, 2, mid_channels=6))
    assert (description.kind, description.stride, description.mid_channels) == ('basic', 2, 6)


@pytest.mark.parametrize(('block', 'projected'), [((8, 8, 1), True), ((4, 8, 2), True), ((4, 6, 1), False)])
def test_a_preactivation_block_is_rebuilt(block, projected):
    old = PreActBasicBlock(*block).eval()
    new = rebuild(old, 6)
    x = torch.randn(2, 6, 8, 8)
    assert new(x).shape == old(torch.randn(2, block[0], 8, 8)).shape
    assert (new.bn1.num_features, new.conv1.in_channels) == (6, 6)
    assert isinstance(new.shortcut, nn.Conv2d) == projected
    assert torch.equal(new.conv2.weight, old.conv2.weight) and old.bn1.num_features == block[0]
    assert not any(m.training for m in new.modules())


def test_the_head_of_a_wide_resnet_takes_up_a_narrower_last_block(toys):
    cfg = toys.classifier(type='mmrecast.WideResNet', depth=10, widen_factor=1, channels=64)
    net = build_network(cfg).eval()
    recipe = [dict(source='backbone.layer*.*', target=dict(type='PreActBasicBlock', width_ratio=0.5))]
    student = check_plan(copy.deepcopy(net), make_plan(net, recipe, (3, 16, 16)))
    assert (student.backbone.bn.num_features, student.head.fc.in_features) == (32, 32)
    assert [b.conv2.out_channels for b in (student.backbone.layer1[0], student.backbone.layer2[0])] == [8, 16]
