"""Hints in fine-tuning: what is compared, and with what it cannot be combined."""

import pytest
import torch
from tiny import CHAIN, classifier, config, recasting, run
from torch import nn

from mmrecast.registry import MODELS
from mmrecast.stages import Stage

STAGES = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=2)]
HALF = [dict(source=CHAIN[2], target=dict(type='ConvBlock', width_ratio=0.5))]


def in_finetuning(**options) -> nn.Module:
    """Return a recasting of a network of six blocks that stands in its fine-tuning."""
    torch.manual_seed(0)
    algorithm = MODELS.build(recasting(classifier(depth=14), **options))
    *_, finetune = algorithm.expand([Stage.from_config(entry) for entry in STAGES])
    for path in CHAIN:
        algorithm.begin_stage(Stage('recast', iters=1, block=path))
    algorithm.begin_stage(finetune)
    return algorithm.train()


@torch.no_grad()
def output_of(network: nn.Module, path: str, images: torch.Tensor) -> torch.Tensor:
    """Return what the module at ``path`` gives."""
    caught: list[torch.Tensor] = []
    handle = network.get_submodule(path).register_forward_hook(lambda module, args, out: caught.append(out))
    network(images)
    handle.remove()
    return caught[0]


def test_the_losses_are_those_of_the_blocks_outputs():
    """Against outputs caught by plain hooks: Σ(s − t)² / Σ(t − mean_c t)² of each."""
    hinted = in_finetuning(hints=dict(blocks=['backbone.layer*.1'], loss=dict(type='RelativeMSELoss', eps=1e-9)))
    images = torch.randn(8, 1, 8, 8)
    losses = hinted.loss(images, dict(gt_label=torch.arange(8)))
    assert sorted(losses) == ['loss_hint0', 'loss_hint1', 'loss_hint2', 'loss_kd', 'loss_task']
    for i, path in enumerate(['backbone.layer1.1', 'backbone.layer2.1', 'backbone.layer3.1']):
        s, t = (output_of(network, path, images) for network in (hinted.student, hinted.teacher))
        expected = (s - t).square().sum() / (t - t.mean((0, 2, 3), keepdim=True)).square().sum()
        assert losses[f'loss_hint{i}'].item() == pytest.approx(expected.item(), rel=1e-4)
    plain = in_finetuning()
    assert sorted(plain.loss(images, dict(gt_label=torch.arange(8)))) == ['loss_kd', 'loss_task']


def test_hints_reach_the_blocks_before_them_and_not_the_teacher():
    hinted = in_finetuning(hints=dict(blocks='backbone.layer2.0'))
    losses = hinted.loss(torch.randn(4, 1, 8, 8), dict(gt_label=torch.arange(4)))
    losses['loss_hint0'].backward()
    reached = {name.rsplit('.', 2)[0] for name, p in hinted.student.named_parameters() if p.grad is not None}
    assert 'backbone.layer2.0' in reached and 'backbone.layer2.1' not in reached
    assert all(p.grad is None for p in hinted.teacher.parameters())


def test_a_run_with_hints_comes_nearer_to_the_teacher(tmp_path, quick, trained_teacher):
    hints = dict(blocks=['backbone.layer1.0'])
    model = recasting(teacher_ckpt=trained_teacher, hints=hints, start='closed_form')
    result = run(config(model, [STAGES[0], dict(kind='finetune', iters=12)]), tmp_path)
    assert result['stages'][-1]['relative_error'] < result['stages'][-1]['relative_error_start']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(hints=['backbone.layer1.0']), r'hints is dict\(blocks=pattern\(s\), loss=dict\(type=…\)\), got'),
        (dict(hints=dict(block='backbone.layer1.0')), 'hints is dict'),
        (dict(hints=dict(blocks=[])), 'a pattern or a list of patterns, got'),
        (dict(hints=dict(blocks='backbone.layer4.*')), 'matches nothing .nearest'),
        (dict(hints=dict(blocks=CHAIN[2]), recipe=HALF), "compares 3 channels with the teacher's 6: choose blocks"),
        (dict(hints=dict(blocks=CHAIN[0]), teacher_cache=1), 'hints need the teacher to run: leave one of the two out'),
    ],
)
def test_wrong_hints(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(recasting(classifier(depth=14), **options))
