"""Distillation through links: which losses there are, what they compare, and what is refused."""

import copy

import pytest
import torch
from tiny import CHAIN, classifier, forward, preprocessor
from torch import nn

from mmrecast.models import build_network
from mmrecast.registry import MODELS
from mmrecast.stages import Stage

LOGITS = dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))
INNER = dict(
    student='backbone.layer2.1', teacher='backbone.layer2.1', loss=dict(type='MSELoss', loss_weight=2.0),
    connector=dict(type='ConvModuleConnector', in_channel=3, out_channel=6, act_cfg=None),
)  # fmt: skip


def distil(links=(), widths=(2, 3, 4), **kwargs):
    torch.manual_seed(0)
    values = dict(student=classifier(depth=14, widths=widths), data_preprocessor=preprocessor())
    if links:
        values['teacher'] = classifier(depth=14)
    algorithm = MODELS.build(dict(type='SingleTeacherDistill', links=links, **(values | kwargs)))
    algorithm.begin_stage(Stage('train', iters=1))
    algorithm.train()
    return algorithm


def double(algorithm):
    return copy.deepcopy(algorithm.student).double(), copy.deepcopy(algorithm.teacher).double()


@torch.no_grad()
def test_labels_alone(images, labels):
    """Back propagation: cross entropy and nothing else."""
    algorithm = distil()
    s = copy.deepcopy(algorithm.student).double()(images.double())
    expected = (s.exp().sum(1).log() - s.gather(1, labels[:, None])[:, 0]).mean().item()
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task'] and losses['loss_task'].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_links_on_logits_and_inner_taps(images, labels):
    """The paper's KD is the first link with the task loss (Eq. 2); an inner tap may need a connector."""
    algorithm = distil([LOGITS, INNER])
    student, teacher = double(algorithm)
    x = images.double()
    inner = copy.deepcopy(algorithm.links[1].connector).double()(forward(student, x, 'backbone.layer2.1'))
    student, _ = double(algorithm)  # the pass above moved the running statistics, which training does not read
    expected = [
        (forward(student, x, None) - forward(teacher, x, None)).square().mean().item(),
        2 * (inner - forward(teacher, x, 'backbone.layer2.1')).square().mean().item(),
    ]
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert list(losses) == ['loss_task', 'loss_link0', 'loss_link1']
    assert [losses[f'loss_link{i}'].item() for i in (0, 1)] == pytest.approx(expected, rel=1e-5)


def test_everything_of_the_student_trains_and_nothing_of_the_teacher(images, labels):
    algorithm = distil([LOGITS, INNER])
    before = {name: value.clone() for name, value in algorithm.teacher.state_dict().items()}
    sum(algorithm.loss(images, dict(gt_label=labels)).values()).backward()
    assert all(parameter.grad is not None for parameter in algorithm.parameters())
    assert any(name.startswith('links.1.connector') for name, _ in algorithm.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in algorithm.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())


def test_taps_are_emptied_and_hooks_removed(images, labels):
    """A step leaves no activation and no hook behind, also when its loss fails."""
    algorithm = distil([INNER])
    wrong = distil([INNER | dict(connector=None)])
    algorithm.loss(images, dict(gt_label=labels))
    with pytest.raises(ValueError, match='MSELoss: the student has .*12, 3, 4, 4.*the teacher .*12, 6, 4, 4'):
        wrong.loss(images, dict(gt_label=labels))
    for one in (algorithm, wrong):
        assert all(not store for store in one.links[0]._read.values())
        assert not any(module._forward_hooks for net in (one.student, one.teacher) for module in net.modules())


class Half(nn.Module):
    """Has a module that it calls twice and one that it never calls."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.fc = nn.Identity(), nn.Identity(), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.twice(self.twice(x.flatten(1))))


def test_wrong_links(images, labels):
    with pytest.raises(KeyError, match="no module 'backbone.layer2.7' .nearest: .*backbone.layer2.[01]"):
        distil([INNER | dict(student='backbone.layer2.7')])
    with pytest.raises(KeyError, match="no module 'backbone.layer5'"):
        distil([INNER | dict(teacher='backbone.layer5')])
    with pytest.raises(KeyError, match="'MSELos' is not registered .*nearest: MSELoss"):
        distil([LOGITS | dict(loss=dict(type='MSELos'))])
    with pytest.raises(ValueError, match='1 link.s. but no teacher'):
        distil([LOGITS], teacher=None)
    with pytest.raises(ValueError, match='neither links nor a task_loss'):
        distil(task_loss=None)
    for tap, times in (('never', 0), ('twice', 2)):
        algorithm = distil([LOGITS | dict(student=tap)], student=Half())
        with pytest.raises(ValueError, match=f"student tap '{tap}' was read {times} times"):
            algorithm.loss(images, dict(gt_label=labels))


def test_no_task_loss(images):
    """Links alone need no labels."""
    losses = distil([LOGITS], task_loss=None).loss(images, None)
    assert list(losses) == ['loss_link0']


def test_stages():
    algorithm = distil()
    with pytest.raises(ValueError, match="SingleTeacherDistill has no stage 'recast'"):
        algorithm.expand([Stage('recast', iters=1)])
    with pytest.raises(ValueError, match='train: its length must be at least 1, got 0'):
        algorithm.expand([Stage('train', epochs=0)])
    assert [s.iters for s in algorithm.expand([Stage('train', iters=3), Stage('train', iters=4)])] == [3, 4]


def test_the_student_may_be_of_another_class(images, labels):
    algorithm = distil([dict(student='fc', teacher='head.fc', loss=dict(type='MSELoss'))], student=Half())
    s, t = algorithm.student(images), algorithm.teacher(images)
    expected = (s - t).square().mean().item()
    assert algorithm.loss(images, dict(gt_label=labels))['loss_link0'].item() == pytest.approx(expected, rel=1e-5)
    assert build_network(algorithm.student) is algorithm.student and CHAIN[0] in dict(algorithm.teacher.named_modules())
