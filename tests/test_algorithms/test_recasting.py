"""Eq. 1, Eq. 2 and the relative error against sums worked out in double precision with plain PyTorch."""

import copy

import pytest
import torch
from tiny import CHAIN, classifier, forward, recasting, tensors
from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.stages import Stage

BOTTLENECKS = classifier(depth=20, block='bottleneck', widths=(2, 3, 4))
CONNECTOR = dict(type='ConvModuleConnector', norm_cfg=dict(type='BN'), act_cfg=None)


def mean_square(s: Tensor, t: Tensor) -> float:
    """Return the mean of (s − t)² over all elements."""
    assert s.dtype == t.dtype == torch.float64
    return sum(((a - b) ** 2).sum().item() for a, b in zip(s, t, strict=True)) / s.numel()


def in_double(algorithm, *inputs: Tensor) -> tuple:
    """Return copies of student (in training mode) and teacher (in eval mode) and the inputs, in double precision."""
    student, teacher = copy.deepcopy(algorithm.student), copy.deepcopy(algorithm.teacher)
    return student.double(), teacher.eval().double(), *(x.double() for x in inputs)


@pytest.mark.parametrize(('block', 'behind'), [*zip(CHAIN, [*CHAIN[1:], None], strict=True)])
@torch.no_grad()
def test_equation_1(algorithm_at, images, block, behind):
    """The mean square at the output of block k+1, the student's BN taking the statistics of the batch."""
    algorithm = algorithm_at(block)
    algorithm.train()
    student, teacher, x = in_double(algorithm, images)
    expected = mean_square(forward(student.train(), x, behind), forward(teacher, x, behind))
    losses = algorithm.loss(images, None)
    assert list(losses) == ['loss_block']
    assert losses['loss_block'].item() == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-3


@torch.no_grad()
def test_equation_2(algorithm_at, images, labels):
    """The mean square of the logits plus cross entropy, a plain sum."""
    algorithm = algorithm_at(None)
    algorithm.train()
    student, teacher, x = in_double(algorithm, images)
    s, t = forward(student.train(), x, None), forward(teacher, x, None)
    cross_entropy = sum(s[i].exp().sum().log().item() - s[i, label].item() for i, label in enumerate(labels)) / len(s)
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert losses['loss_kd'].item() == pytest.approx(mean_square(s, t), rel=1e-5)
    assert losses['loss_task'].item() == pytest.approx(cross_entropy, rel=1e-5)
    total, _ = algorithm.parse_losses(losses)
    assert total.item() == pytest.approx(mean_square(s, t) + cross_entropy, rel=1e-5)


@torch.no_grad()
def test_losses_are_chosen_by_the_config(algorithm_at, images, labels):
    plain, weighted = algorithm_at(CHAIN[2]), algorithm_at(CHAIN[2], block_loss=dict(type='MSELoss', loss_weight=3.0))
    assert weighted.loss(images, None)['loss_block'] == 3 * plain.loss(images, None)['loss_block']
    tuned = algorithm_at(None, kd_loss=dict(type='MSELoss', loss_weight=2.0), task_loss=nn.CrossEntropyLoss())
    losses = tuned.loss(images, dict(gt_label=labels))
    s, t = tuned.student(images), tuned.teacher(images)
    assert losses['loss_kd'].item() == pytest.approx(2 * (s - t).square().mean().item(), rel=1e-5)


@torch.no_grad()
def test_teacher_fed_input(algorithm_at, images):
    """Block k gets what the teacher's block k gets; what comes before in the student does not matter."""
    algorithm = algorithm_at(CHAIN[3], block_input='teacher')
    algorithm.train()
    student, teacher, x = in_double(algorithm, images)
    t_input = forward(teacher, x, CHAIN[2])
    s = student.get_submodule(CHAIN[4])(student.get_submodule(CHAIN[3])(t_input))
    expected = mean_square(s, forward(teacher, x, CHAIN[4]))
    assert algorithm.loss(images, None)['loss_block'].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_compared_at_the_target(algorithm_at, images):
    """The target's own narrower output goes through the connector; the teacher's is as it is."""
    teacher = classifier(depth=11, block='bottleneck', widths=(2, 3, 4))
    algorithm = algorithm_at('backbone.layer2.0', teacher=teacher, compare='target', connector=CONNECTOR)
    algorithm.train()
    student, teacher, x = in_double(algorithm, images)

    def prefix(network: nn.Module) -> Tensor:
        backbone = network.backbone
        return backbone.layer2(backbone.layer1(backbone.bn1(backbone.conv1(x)).relu()))

    s, t = prefix(student), prefix(teacher)
    assert (s.shape[1], t.shape[1]) == (3, 12)
    expected = mean_square(copy.deepcopy(algorithm.connector).double()(s), t)
    assert algorithm.loss(images, None)['loss_block'].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_compared_at_a_target_of_the_same_width(algorithm_at, images):
    algorithm = algorithm_at(CHAIN[1], compare='target')
    algorithm.train()
    student, teacher, x = in_double(algorithm, images)
    expected = mean_square(forward(student, x, CHAIN[1]), forward(teacher, x, CHAIN[1]))
    assert algorithm.loss(images, None)['loss_block'].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('block', [CHAIN[2], CHAIN[5], None])
@torch.no_grad()
def test_relative_error(algorithm_at, images, block):
    """Σ(s − t)² / Σ(t − mean_c t)² over all batches, in eval mode, in double precision."""
    algorithm = algorithm_at(block)
    algorithm.train()
    behind = None if block in (CHAIN[5], None) else CHAIN[CHAIN.index(block) + 1]
    student, teacher, x = in_double(algorithm, images)
    s, t = forward(student.eval(), x, behind), forward(teacher, x, behind)
    square = variance = 0.0
    for channel in range(t.shape[1]):
        mean = t[:, channel].sum() / t[:, channel].numel()
        variance += ((t[:, channel] - mean) ** 2).sum().item()
        square += ((s[:, channel] - t[:, channel]) ** 2).sum().item()
    before = tensors(algorithm)
    batches = [dict(inputs=part) for part in images.split([5, 5, 2])]
    error = algorithm.relative_error(algorithm.stage, batches)
    assert error == pytest.approx(square / variance, rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.state_dict().items())
    assert algorithm.relative_error(algorithm.stage, []) is None


@pytest.mark.parametrize(('block', 'ends'), [(CHAIN[0], 1), (CHAIN[3], 4), (CHAIN[5], 6)])
def test_nothing_is_computed_behind_the_tap(algorithm_at, images, block, ends):
    """Every module up to block k+1 is called once by each network in a step, every later one never."""
    algorithm = algorithm_at(block)
    calls = dict.fromkeys([(side, path) for side in ('student', 'teacher') for path in [*CHAIN, 'head.fc']], 0)

    def count(key):
        return lambda *_: calls.__setitem__(key, calls[key] + 1)

    for side, path in calls:
        getattr(algorithm, side).get_submodule(path).register_forward_hook(count((side, path)))
    algorithm.train()
    algorithm.loss(images, None)['loss_block'].backward()
    expected = [1] * (ends + 1) + [0] * (6 - ends)
    for side in ('student', 'teacher'):
        assert [calls[side, path] for path in [*CHAIN, 'head.fc']] == expected
    algorithm.relative_error(algorithm.stage, [dict(inputs=images)])
    assert sum(calls.values()) == 4 * (ends + 1)


def xavier_bound(conv: nn.Conv2d) -> float:
    area = conv.kernel_size[0] * conv.kernel_size[1]
    return (6 / (area * (conv.in_channels + conv.out_channels))) ** 0.5


def test_fresh_next_block_is_drawn_again_when_it_becomes_the_target(algorithm_at):
    """Xavier-uniform weights, BN as the identity; block k+1 is drawn at stage k, replaced and drawn at k+1."""
    algorithm = algorithm_at(CHAIN[1])
    new, following = (algorithm.student.get_submodule(path) for path in CHAIN[1:3])
    for block in (new, following):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                bound = xavier_bound(layer)
                assert layer.weight.abs().max() <= bound and layer.weight.std() > 0.4 * bound
            elif isinstance(layer, nn.BatchNorm2d):
                assert (layer.weight == 1).all() and (layer.bias == 0).all() and (layer.running_mean == 0).all()
    drawn = following.conv1.weight.clone()
    stages = algorithm.expand([Stage('recast', iters=1)])
    algorithm.begin_stage(stages[2])
    assert type(algorithm.student.get_submodule(CHAIN[2])).__name__ == 'ConvBlock'
    assert algorithm.student.get_submodule(CHAIN[2]).conv.weight.shape == drawn.shape
    assert not torch.equal(algorithm.student.get_submodule(CHAIN[2]).conv.weight, drawn)


def assert_of_the_teacher(algorithm, paths: list[str]) -> None:
    for path in paths:
        ours, theirs = (getattr(algorithm, side).get_submodule(path).state_dict() for side in ('student', 'teacher'))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), path


@pytest.mark.parametrize('next_block', ['teacher', 'frozen'])
def test_next_block_of_the_teacher(algorithm_at, next_block):
    algorithm = algorithm_at(CHAIN[2], next_block=next_block)
    assert_of_the_teacher(algorithm, [*CHAIN[3:], 'head'])
    assert algorithm.student.get_submodule(CHAIN[3]).conv1.weight.requires_grad == (next_block == 'teacher')


@pytest.mark.parametrize('block', [CHAIN[2], CHAIN[5]])
def test_what_is_behind_the_comparison_keeps_its_weights(algorithm_at, block):
    """Compared at the target itself, block k+1 and the head do not train, so they must not start afresh."""
    algorithm = algorithm_at(block, compare='target')
    assert_of_the_teacher(algorithm, [*CHAIN[CHAIN.index(block) + 1 :], 'head'])


def test_closed_form_start_is_better_than_xavier(algorithm_at, images):
    batches = [dict(inputs=torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(9)))]
    errors = []
    for start in ('xavier', 'closed_form'):
        algorithm = algorithm_at(CHAIN[0], batches, start=start, next_block='frozen')
        errors.append(algorithm.relative_error(algorithm.stage, [dict(inputs=images)]))
    assert errors[1] < 0.5 * errors[0]


def test_closed_form_defaults_to_a_frozen_next_block(algorithm_at, images):
    algorithm = algorithm_at(CHAIN[0], [dict(inputs=images)], start='closed_form')
    assert (algorithm.next_block, algorithm.start_images) == ('frozen', 1024)
    assert MODELS.build(recasting()).next_block == 'fresh'


def test_narrowed_targets_rebuild_what_follows(algorithm_at, images):
    """A bottleneck becomes a convolution of its inner width; from Xavier what reads it is fresh, 'frozen' or not."""
    for next_block in ('fresh', 'frozen'):
        algorithm = algorithm_at('backbone.layer1.1', teacher=BOTTLENECKS, next_block=next_block)
        conv, was = (getattr(algorithm, side).backbone.layer2[0].conv1 for side in ('student', 'teacher'))
        assert (conv.in_channels, was.in_channels) == (2, 8)
        assert conv.weight.requires_grad and conv.weight.abs().max() <= xavier_bound(conv)
        algorithm.train()
        assert algorithm.loss(images, None)['loss_block'].isfinite()
    last = algorithm_at('backbone.layer3.1', teacher=BOTTLENECKS)
    assert (last.student.head.fc.in_features, last.teacher.head.fc.in_features) == (4, 16)


WRONG = {
    "start must be one of xavier, closed_form, got 'solved'": dict(start='solved'),
    "start has no option 'image'": dict(start=dict(type='closed_form', image=3)),
    'images of the start must be a whole number of at least 1, got 0': dict(start=dict(type='closed_form', images=0)),
    'ridge of the start must be a number of at least 0, got -1': dict(start=dict(type='closed_form', ridge=-1)),
    "next_block must be one of fresh, teacher, frozen, got 'fronzen' .nearest: frozen": dict(next_block='fronzen'),
    "block_input must be one of student, teacher, got 'both'": dict(block_input='both'),
    "compare must be one of next, target, got 'logits'": dict(compare='logits'),
    "earlier must be 'all' or how many of the last blocks train, got -1": dict(earlier=-1),
    "earlier must be 'all' or how many of the last blocks train, got 'none'": dict(earlier='none'),
    "'MSELos' is not registered": dict(block_loss=dict(type='MSELos')),
    "closed_form' cannot solve for block 'backbone.layer1.0': PlainBlock.solvable.. tells of no": dict(
        start='closed_form', recipe=[dict(source='backbone.layer1.0', target='PlainBlock')]
    ),
    "block_input='teacher' needs the width kept before block 'backbone.layer1.1'": dict(
        block_input='teacher', teacher=BOTTLENECKS
    ),
    "compare='target' at block 'backbone.layer1.0': 2 channels against 8 need a connector": dict(
        compare='target', teacher=BOTTLENECKS
    ),
}


@pytest.mark.parametrize('message', WRONG)
def test_wrong_options_are_refused(message):
    with pytest.raises((ValueError, KeyError), match=message):
        MODELS.build(recasting(**WRONG[message]))


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([dict(kind='train', iters=1)], "Recasting has no stage 'train'"),
        ([dict(kind='finetune', iters=1)], "no recast stage for block 'backbone.layer1.0' of the recipe"),
        ([dict(kind='recast', iters=0)], "a length of 0 needs start='closed_form'"),
        ([dict(kind='recast', iters=1), dict(kind='finetune', epochs=0)], 'finetune: its length must be at least 1'),
        ([dict(kind='recast', blocks='backbone.layer2.*', iters=1)], "where 'backbone.layer1.0' is next"),
        ([dict(kind='recast', iters=1), dict(kind='recast', iters=1)], 'a recast stage too many'),
    ],
)
def test_impossible_schedules_are_refused(entries, message):
    algorithm = MODELS.build(recasting())
    with pytest.raises(ValueError, match=message):
        algorithm.expand([Stage.from_config(entry) for entry in entries])


def test_expansion():
    """One entry stands for one stage per block; patterns take their blocks in order; fine-tuning may come between."""
    algorithm = MODELS.build(recasting(classifier(depth=14)))
    stages = algorithm.expand([Stage('recast', epochs=2)])
    assert [(s.kind, s.block, s.epochs) for s in stages] == [('recast', path, 2) for path in CHAIN]
    stages = algorithm.expand(
        [
            Stage('recast', iters=3, blocks='backbone.layer1.*'),
            Stage('finetune', iters=1),
            Stage('recast', iters=5, blocks=['backbone.layer2.0', 'backbone.layer2.1']),
            Stage('recast', iters=7),
        ]
    )
    assert [(s.block, s.iters) for s in stages] == [
        *zip(CHAIN[:2], (3, 3), strict=True), (None, 1), *zip(CHAIN[2:], (5, 5, 7, 7), strict=True),
    ]  # fmt: skip
