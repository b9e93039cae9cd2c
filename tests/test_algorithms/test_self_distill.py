"""Self-distillation: the teacher's taps read the student's own pass, detached."""

import copy

import pytest
import torch
from tiny import classifier, preprocessor

from mmrecast.registry import MODELS
from mmrecast.stages import Stage

DEEP = dict(
    student='early', teacher='late', name='deep', loss=dict(type='MSELoss'),
    connector=dict(type='ConvModuleConnector', kernel_size=2, stride=2, act_cfg=None),
)  # fmt: skip


def build(links=(DEEP,), **kwargs):
    torch.manual_seed(0)
    taps = dict(student=dict(early='backbone.layer2', late='backbone.layer3'))
    values = dict(student=classifier(depth=14), taps=taps, data_preprocessor=preprocessor())
    algorithm = MODELS.build(dict(type='SelfDistill', links=links, **(values | kwargs)))
    algorithm.begin_stage(Stage('train', iters=1))
    algorithm.train()
    return algorithm


def test_the_deep_teaches_the_shallow_and_is_not_pulled_towards_it(images, labels):
    algorithm = build(task_loss=None)
    backbone = copy.deepcopy(algorithm.student).backbone
    losses = algorithm.loss(images, dict(gt_label=labels))
    early = backbone.layer2(backbone.layer1(backbone.relu(backbone.bn1(backbone.conv1(images)))))
    expected = (algorithm.links[0].connector(early) - backbone.layer3(early)).square().mean()
    assert losses['loss_deep'].item() == pytest.approx(expected.item(), rel=1e-5)
    losses['loss_deep'].backward()
    reached = {name for name, p in algorithm.student.named_parameters() if p.grad is not None}
    assert reached and not any('layer3' in name or 'head' in name for name in reached)
    assert any('layer2' in name for name in reached)


def test_one_pass_serves_both_sides(images, labels):
    algorithm = build()
    calls = []
    algorithm.student.backbone.layer3.register_forward_hook(lambda *args: calls.append(1))
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task', 'loss_deep'] and len(calls) == 1
    assert algorithm.teacher is None and not any('teacher' in name for name in algorithm.state_dict())


def test_what_is_refused():
    with pytest.raises(KeyError, match="no module 'lat' .nearest: late"):
        build([DEEP | dict(teacher='lat')])
    with pytest.raises(ValueError, match='neither links nor a task_loss'):
        build([], task_loss=None)
