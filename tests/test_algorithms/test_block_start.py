"""The closed-form start inside its network: what it leaves of the teacher's function, and what it leaves alone."""

import pytest
import torch
from tiny import classifier, recasting, tensors
from torch import nn

from mmrecast.blocks import BasicBlock, ConvBlock
from mmrecast.links.prefix import run_to
from mmrecast.registry import MODELS
from mmrecast.stages import Stage

BOTTLENECKS = classifier(depth=20, block='bottleneck', widths=(2, 3, 4))
CHAIN = [f'backbone.layer{stage}.{block}' for stage in (1, 2, 3) for block in (0, 1)]


def smooth(n: int = 96, seed: int = 5) -> torch.Tensor:
    return nn.functional.avg_pool2d(torch.randn(n, 1, 10, 10, generator=torch.Generator().manual_seed(seed)), 3, 1) * 3


def batches() -> list[dict]:
    return [dict(inputs=part) for part in smooth().split(32)]


@torch.no_grad()
def relative(algorithm, block: str | None) -> float:
    s, t = (run_to(network.eval(), block, smooth(seed=6))[0] for network in (algorithm.student, algorithm.teacher))
    return ((s - t).square().sum() / (t - t.mean((0, *range(2, t.ndim)), keepdim=True)).square().sum()).item()


@pytest.mark.parametrize(('block', 'behind'), [('backbone.layer1.1', 'backbone.layer2.0'), ('backbone.layer3.0', None)])
def test_what_reads_a_narrow_target_goes_on_as_before(algorithm_at, block, behind):
    """Bottlenecks of 8 and 16 channels become convolutions of 2 and 4; what follows is folded and frozen."""
    teacher = BOTTLENECKS if behind else classifier(depth=11, block='bottleneck', widths=(2, 3, 4))  # one per stage
    algorithm = algorithm_at(block, batches(), teacher=teacher, start='closed_form')
    assert algorithm.next_block == 'frozen'
    reader = algorithm.student.get_submodule(behind or 'head.fc')
    assert not any(p.requires_grad for p in reader.parameters())
    solved = relative(algorithm, behind)
    xavier = relative(algorithm_at(block, batches(), teacher=teacher), behind)
    assert solved < 0.9 < xavier
    if behind:
        for layer in ('conv2', 'bn3'):
            for name, value in getattr(reader, layer).state_dict().items():
                assert torch.equal(value, algorithm.teacher.get_submodule(f'{behind}.{layer}').state_dict()[name])


@pytest.mark.parametrize(('next_block', 'folded', 'trains'), [('teacher', True, True), ('fresh', False, True)])
def test_a_folded_next_block_may_train_or_begin_afresh(algorithm_at, next_block, folded, trains):
    algorithm = algorithm_at(
        'backbone.layer1.1', batches(), teacher=BOTTLENECKS, start='closed_form', next_block=next_block
    )
    reader = algorithm.student.backbone.layer2[0]
    assert all(p.requires_grad for p in reader.parameters()) is trains
    kept = torch.equal(reader.conv3.weight, algorithm.teacher.backbone.layer2[0].conv3.weight)
    assert kept is folded


@pytest.mark.parametrize(
    'target',
    [
        dict(type='BasicBlock'),
        dict(type='BasicBlock', width_ratio=0.5),
        dict(type='DepthwiseSeparable'),
        dict(type='Bottleneck'),
        dict(type='PreActBasicBlock', width_ratio=0.5),
    ],
)
def test_every_target_starts_in_its_network(algorithm_at, target):
    recipe = [dict(source='backbone.layer*.*', target=target)]
    algorithm = algorithm_at(CHAIN[1], batches(), recipe=recipe, start='closed_form')
    assert relative(algorithm, CHAIN[2]) < 0.7


def test_a_stage_of_blocks(algorithm_at):
    recipe = [dict(source='backbone.layer*', target=dict(type='StackedBlocks', depth=1))]
    algorithm = algorithm_at('backbone.layer1', batches(), recipe=recipe, start='closed_form')
    assert isinstance(algorithm.student.backbone.layer1[0], BasicBlock)
    assert relative(algorithm, 'backbone.layer2') < 0.5


def dense_teacher() -> nn.Module:
    network = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.CifarDenseNet', depth=16, growth_rate=3, in_channels=1),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=12),
    )
    return network


@pytest.mark.parametrize('target', ['ConvBlock', 'BasicBlock'])
def test_a_dense_block_is_lifted_and_its_transition_takes_that_back(algorithm_at, target):
    """Without it more than the variance would be lost; the teacher's transition stays as it was."""
    recipe = [dict(source='backbone.block*', target=target)]
    algorithm = algorithm_at('backbone.block1', batches(), dense_teacher(), recipe=recipe, start='closed_form')
    norm, was = (getattr(algorithm, side).backbone.transition1[0] for side in ('student', 'teacher'))
    assert (norm.running_mean >= was.running_mean).all() and (norm.running_mean > was.running_mean).any()
    assert torch.equal(norm.running_var, was.running_var)
    assert relative(algorithm, 'backbone.transition1') < 0.7
    last = algorithm_at(None, batches(), dense_teacher(), recipe=recipe, start='closed_form')
    assert relative(last, None) < 1


def test_compared_at_the_target_nothing_is_lifted(algorithm_at):
    recipe = [dict(source='backbone.block*', target='ConvBlock')]
    options = dict(recipe=recipe, start='closed_form', compare='target')
    algorithm = algorithm_at('backbone.block1', batches(), dense_teacher(), **options)
    norm, was = (getattr(algorithm, side).backbone.transition1[0] for side in ('student', 'teacher'))
    assert torch.equal(norm.running_mean, was.running_mean)
    assert algorithm.relative_error(algorithm.stage, batches()) < 2


def test_the_same_images_give_the_same_start(algorithm_at):
    one, other = (
        tensors(algorithm_at('backbone.layer2.0', batches(), BOTTLENECKS, start='closed_form').student)
        for _ in range(2)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_an_image(registered):
    algorithm = MODELS.build(recasting(classifier(depth=14), start='closed_form'))
    stage = algorithm.expand([Stage('recast', iters=1), Stage('finetune', iters=1)])[0]
    with pytest.raises(ValueError, match='the closed-form start got no image'):
        algorithm.begin_stage(stage)
    assert isinstance(algorithm.student.get_submodule(stage.block), ConvBlock)
