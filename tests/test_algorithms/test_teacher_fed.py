"""Teacher-fed stages cost their own blocks only; blocks that were trained apart are joined, and then aligned."""

import copy

import pytest
import torch
from tiny import CHAIN, classifier, differing, forward, recasting, tensors
from torch import nn

from mmrecast.algorithms.joining import load_block, state_of
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.apply import replay


@pytest.fixture
def convolutions(monkeypatch, images):
    """Return a function: algorithm → how many convolutions student and teacher compute in a step."""
    computed: list[nn.Module] = []
    convolve = nn.Conv2d._conv_forward  # a hook is called even where what the module does has been replaced

    def counted(layer: nn.Conv2d, *args):
        computed.append(layer)
        return convolve(layer, *args)

    def count(algorithm) -> tuple[int, ...]:
        algorithm.train()
        with monkeypatch.context() as patch:
            patch.setattr(nn.Conv2d, '_conv_forward', counted)
            computed.clear()
            algorithm.loss(images, None)['loss_block'].backward()
        sides = [set(network.modules()) for network in (algorithm.student, algorithm.teacher)]
        return tuple(sum(layer in side for layer in computed) for side in sides)

    return count


@pytest.mark.parametrize('k', range(6))
def test_the_student_runs_its_block_and_the_next(algorithm_at, convolutions, k):
    """One convolution for the target, two for the teacher's block behind it, if there is one; nothing before."""
    fed = algorithm_at(CHAIN[k], block_input='teacher')
    behind = 2 if k < 5 else 0
    assert convolutions(fed) == (1 + behind, 1 + 2 * (k + 1) + behind)
    student = algorithm_at(CHAIN[k])
    assert convolutions(student)[0] == 1 + (k + 1) + behind


def test_compared_at_the_target_it_runs_that_alone(algorithm_at, convolutions):
    assert convolutions(algorithm_at(CHAIN[3], block_input='teacher', compare='target'))[0] == 1


@pytest.mark.parametrize('block', [CHAIN[0], CHAIN[3], CHAIN[5]])
def test_what_comes_before_stays_as_it_is(algorithm_at, images, block):
    """A step changes blocks k and k+1 (the head, behind the last), running statistics included, and nothing else."""
    algorithm = algorithm_at(block, block_input='teacher')
    algorithm.train()
    before, teacher = tensors(algorithm.student), tensors(algorithm.teacher)
    optimizer = torch.optim.SGD([p for p in algorithm.student.parameters() if p.requires_grad], lr=0.1)
    algorithm.loss(images, None)['loss_block'].backward()
    optimizer.step()
    trained = tuple(f'{path}.' for path in [*CHAIN, 'head'][CHAIN.index(block) :][:2])
    assert differing(before, tensors(algorithm.student)) == sorted(n for n in before if n.startswith(trained))
    assert differing(teacher, tensors(algorithm.teacher)) == []


def test_the_error_is_that_of_the_block_alone(algorithm_at, images):
    """Σ(s − t)² / Σ(t − mean_c t)², both blocks given what the teacher gives."""
    algorithm = algorithm_at(CHAIN[2], block_input='teacher')
    x = forward(algorithm.teacher, images, CHAIN[1])
    student = copy.deepcopy(algorithm.student).eval()
    with torch.no_grad():
        s = student.get_submodule(CHAIN[3])(student.get_submodule(CHAIN[2])(x)).double()
        t = forward(algorithm.teacher, images, CHAIN[3]).double()
    expected = (s - t).square().sum() / (t - t.mean((0, 2, 3), keepdim=True)).square().sum()
    found = algorithm.relative_error(algorithm.stage, [dict(inputs=images)])
    assert found == pytest.approx(expected.item(), rel=1e-5)


# ---- joined ---------------------------------------------------------------------------------------------------------


def test_blocks_apart_leave_the_student_alone_until_they_are_joined(images):
    algorithm = MODELS.build(recasting(classifier(depth=14), block_input='teacher'))
    stages = algorithm.expand([Stage('recast', iters=1)])
    before, states = tensors(algorithm.student), {}
    for stage in reversed(stages):
        with algorithm.apart():
            algorithm.begin_stage(stage)
            algorithm.train()
            algorithm.loss(images, None)  # moves running statistics
            states[stage.block] = algorithm.block_state()
    assert differing(before, tensors(algorithm.student)) == []
    for stage in stages:
        algorithm.join(stage, states[stage.block])
    expected = replay(copy.deepcopy(algorithm.teacher), algorithm.plan).state_dict()
    for block in CHAIN:
        expected |= {name: value for name, value in states[block].items() if name.startswith(f'{block}.')}
    expected |= {name: value for name, value in states[CHAIN[-1]].items() if name.startswith('head.')}
    assert differing(expected, tensors(algorithm.student)) == []
    assert algorithm.origin_so_far().plan == algorithm.plan


def test_a_state_is_what_modules_hold_themselves():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    assert sorted(state_of(network, {network, network[1]})) == []
    state = state_of(network, {network[1][0], network[1][1]})
    assert sorted(state) == sorted(f'1.0.{n}' for n in network[1][0].state_dict())
    state['1.0.weight'].fill_(7)
    assert network[1][0].weight.eq(1).all()  # a copy


def test_a_state_that_does_not_fit():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = state_of(network, {network[0]})
    before = tensors(network)
    with pytest.raises(ValueError, match="what was trained for block '0' lacks '0.bias'"):
        load_block(network, '0', {'0.weight': state['0.weight']})
    with pytest.raises(ValueError, match=r"'0.weight' of shape \(1, 2, 1, 1\), the student has \(2, 1, 1, 1\) there"):
        load_block(network, '0', state | {'0.weight': torch.zeros(1, 2, 1, 1)})
    with pytest.raises(ValueError, match=r"'2.weight' of shape \(2,\), the student has nothing of that name"):
        load_block(network, '0', state | {'2.weight': torch.zeros(2)})
    assert differing(before, tensors(network)) == []


# ---- aligned --------------------------------------------------------------------------------------------------------


def aligned(block: str, **options):
    """Return a recasting in the stage that aligns a block, all of its blocks recast."""
    torch.manual_seed(0)
    algorithm = MODELS.build(recasting(classifier(depth=14), block_input='teacher', **options))
    for stage in algorithm.expand([Stage('recast', iters=1), Stage('align', iters=1, blocks=block)]):
        algorithm.begin_stage(stage)
    return algorithm


@pytest.mark.parametrize(('options', 'first'), [(dict(), 0), (dict(earlier=1), 2)])
def test_aligned_on_the_students_own_input(images, options, first):
    """Equation 1 behind block k+1, all blocks recast; nothing is replaced, ``earlier`` says what trains before k."""
    algorithm = aligned(CHAIN[3], **options)
    algorithm.eval()
    s, t = forward(algorithm.student, images, CHAIN[4]), forward(algorithm.teacher, images, CHAIN[4])
    loss = algorithm.loss(images, None)['loss_block']
    assert loss.item() == pytest.approx((s - t).square().mean().item(), rel=1e-5) and loss > 0
    trained = tuple(f'{path}.' for path in [*([] if first else ['backbone.conv1', 'backbone.bn1']), *CHAIN[first:5]])
    wanted = [name for name, p in algorithm.student.named_parameters() if p.requires_grad]
    assert wanted == [name for name, _ in algorithm.student.named_parameters() if name.startswith(trained)]


def test_aligning_replaces_nothing():
    algorithm = aligned(CHAIN[0])
    before = tensors(algorithm.student)
    algorithm.begin_stage(Stage('align', iters=1, block=CHAIN[1]))
    assert differing(before, tensors(algorithm.student)) == []
    assert algorithm.start_images_of(Stage('align', iters=1, block=CHAIN[1])) == 0


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([Stage('align', iters=1), Stage('recast', iters=1)], 'align: no block is recast before it'),
        ([Stage('recast', iters=1, blocks=CHAIN[0]), Stage('align', iters=1, blocks=CHAIN[2])],
         f"align: block path '{CHAIN[2]}' matches nothing.* among the blocks of the recipe"),
        ([Stage('recast', iters=1), Stage('align', iters=0)], 'align: its length must be at least 1, got 0'),
    ],
)  # fmt: skip
def test_impossible_alignments_are_refused(entries, message):
    algorithm = MODELS.build(recasting(classifier(depth=14), block_input='teacher'))
    with pytest.raises(ValueError, match=message):
        algorithm.expand(entries)
