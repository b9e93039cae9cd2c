"""The search of DAN: mixtures by hand, noise, gradients, what γ does, and what is left when it has ended."""

import copy
import math

import pytest
import torch
from adjoined_pairs import GROUPS, one_hot, search, searching
from tiny import SHAPE, config, differing, run, tensors

from mmrecast.analysis.complexity import count
from mmrecast.apis import load_student
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.widths import narrow, widths_of
from mmrecast.utils.checkpoint import load_file

# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['mults', 'params'])
def test_cost_of_a_certain_choice_is_that_of_the_extracted_network(images, labels, kind):
    """λ γ times what the complexity tool counts, exactly; half of γ, half of it."""
    algorithm = searching(gamma=2.0**-20, cost=dict(type=kind)).double()
    for divisors in ((1, 1, 1, 1), (4, 2, 1, 4), (4, 4, 4, 4)):
        algorithm.student.sample = lambda tau, divisors=divisors: one_hot(algorithm, *divisors)
        for progress, factor in ((1.0, 1.0), (0.25, 0.25)):
            algorithm.progress = progress
            losses = algorithm.loss(images.double(), dict(gt_label=labels))
            plain = widths_of(algorithm.graph, dict(zip(GROUPS, divisors, strict=True)))
            counted = getattr(count(narrow(copy.deepcopy(algorithm.student.full), plain), SHAPE), kind)
            assert losses['cost'].item() == counted and not losses['cost'].requires_grad
            assert losses['loss_cost'].item() == factor * 2.0**-20 * counted
    assert set(losses) == {'loss_task', 'loss_kd', 'loss_cost', 'cost'}


def test_gradient_of_the_choices_by_finite_differences(images, labels):
    """Of all three losses together, with the same noise."""
    algorithm, images = searching(gamma=1e-5, tau=1.5).double(), images.double()
    with torch.no_grad():
        algorithm.student.width_logits.normal_()
        algorithm.student.full.head.fc.weight.mul_(100)
    state = tensors(algorithm)

    def loss():
        torch.manual_seed(11)
        algorithm.load_state_dict(state, strict=False)
        losses = algorithm.loss(images, dict(gt_label=labels))
        return sum(value for name, value in losses.items() if name.startswith('loss'))

    logits = algorithm.student.width_logits
    loss().backward()
    expected, state = logits.grad.clone(), {k: v for k, v in state.items() if 'width_logits' not in k}
    for i in range(logits.numel()):
        step, ends = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                logits.view(-1)[i] += sign * step
                ends.append(loss().item())
                logits.view(-1)[i] -= sign * step
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(expected.view(-1)[i].item(), rel=1e-4, abs=1e-8)
    assert expected.abs().min() > 1e-7


def test_what_is_scheduled_is_used(images, labels):
    algorithm = searching(gamma=1e-5)
    assert algorithm.scheduled == dict(tau=15.0, gamma=1e-5)
    torch.manual_seed(0)
    first = algorithm.loss(images, dict(gt_label=labels))
    algorithm.scheduled.update(gamma=3e-5)
    torch.manual_seed(0)
    second = algorithm.loss(images, dict(gt_label=labels))
    assert second['loss_cost'].item() == pytest.approx(3 * first['loss_cost'].item(), rel=1e-6)
    drawn = []
    algorithm.student.sample = lambda tau: drawn.append(tau) or one_hot(algorithm, 1, 1, 1, 1)
    algorithm.scheduled.update(tau=0.7)
    algorithm.loss(images, dict(gt_label=labels))
    assert drawn == [0.7]
    for name, value, said in (('tau', 0.0, 'tau must be greater than 0, got 0'), ('gamma', -1.0, 'would reward cost')):
        algorithm.scheduled.update(tau=1.0, gamma=0.0)
        algorithm.scheduled[name] = value
        with pytest.raises(ValueError, match=said):
            algorithm.loss(images, dict(gt_label=labels))


# ---- a search -------------------------------------------------------------------------------------------------------


def test_a_larger_gamma_gives_a_smaller_network(tmp_path, quick):
    """Through the staged loop, on digits: from next to nothing over a middle to everything at its narrowest."""
    stages = [dict(kind='search', iters=15), dict(kind='train', iters=1)]
    mults, choices = [], []
    for gamma in (1e-12, 1e-4, 1e-2):
        folder = tmp_path / f'{gamma:g}'
        tau = dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.9, by_epoch=False)
        wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.05))
        run(config(search(gamma=gamma, tau=2.0), stages, optim_wrapper=wrapper, param_scheduler=[tau]), folder)
        mults.append(count(load_student(str(folder / 'student.pth')), SHAPE).mults)
        choices.append(load_file(folder / 'stage002_iter00000016.pth')['structure']['divisors'])
    assert mults[0] > mults[2] and mults[0] >= mults[1] >= mults[2]
    assert set(choices[2].values()) == {4} and set(choices[0].values()) != {4}


def test_when_the_search_has_ended(images, labels):
    algorithm = searching()
    start = tensors(algorithm.student.full)
    optimizer = torch.optim.SGD(algorithm.parameters(), 0.1)
    for _ in range(3):
        losses = algorithm.loss(images, dict(gt_label=labels))
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert differing(start, tensors(algorithm.student.full)) and algorithm.student.width_logits.abs().max() > 0
    with torch.no_grad():
        algorithm.student.width_logits.copy_(one_hot(algorithm, 4, 2, 1, 2))
    assert algorithm.structure() == {} and algorithm.small_widths is None
    with pytest.raises(ValueError, match='^the search has not ended: the small network has no widths before the stage'):
        _ = algorithm.kept_networks
    algorithm.begin_stage(Stage('train', iters=10))
    algorithm.train()
    assert not differing(start, tensors(algorithm.student.full))  # the weights of the beginning
    choice = dict(zip(GROUPS, (4, 2, 1, 2), strict=True))
    assert algorithm.structure() == dict(divisors=choice) and algorithm.width_distribution() is None
    assert not algorithm.student.width_logits.requires_grad
    assert all(p.requires_grad for name, p in algorithm.student.named_parameters() if name != 'width_logits')
    small, _ = algorithm.kept_networks['']
    shapes = {name: tuple(p.shape) for name, p in small.named_parameters()}
    assert shapes['backbone.layer2.0.conv1.weight'] == (2, 4, 3, 3)
    assert shapes['backbone.layer2.0.conv2.weight'] == (4, 2, 3, 3)
    assert shapes['backbone.layer2.0.shortcut.0.weight'] == (4, 4, 1, 1)  # what a sum joins has one width
    assert shapes['backbone.layer3.0.conv1.weight'] == (16, 4, 3, 3)
    assert shapes['backbone.layer3.0.conv2.weight'] == (8, 16, 3, 3) and shapes['head.fc.weight'] == (10, 8)
    losses = algorithm.loss(images, dict(gt_label=labels))
    assert set(losses) == {'loss_task', 'loss_kd'}
    logits = algorithm.student.width_logits.clone()
    sum(losses.values()).backward()
    torch.optim.SGD([p for p in algorithm.parameters() if p.requires_grad], 0.1).step()
    assert torch.equal(algorithm.student.width_logits, logits)
    algorithm.eval()
    with torch.no_grad():
        assert torch.equal(algorithm.kept_networks[''][0](images), algorithm(images))


def test_the_train_stage_is_an_adjoined_network_of_what_was_found(images, labels):
    """Losses and gradients are, bit for bit, those of AdjoinedNetwork with these divisors and the same weights."""
    algorithm = searching()
    optimizer = torch.optim.SGD(algorithm.parameters(), 0.1)
    algorithm.loss(images, dict(gt_label=labels))['loss_task'].backward()
    optimizer.step()
    with torch.no_grad():
        algorithm.student.width_logits.copy_(one_hot(algorithm, 2, 4, 1, 2))
    algorithm.begin_stage(Stage('train', iters=10))
    torch.manual_seed(0)
    alone = MODELS.build(search(type='AdjoinedNetwork', alpha=algorithm.student.settled))
    alone.begin_stage(Stage('train', iters=10))
    grads = []
    for one in (algorithm, alone):
        one.train()
        one.progress = 0.4
        losses = one.loss(images, dict(gt_label=labels))
        sum(losses.values()).backward()
        grads.append({name: p.grad for name, p in one.student.named_parameters() if p.requires_grad} | losses)
    assert not differing(*grads) and len(grads[0]) > 20


def test_what_every_group_leans_to():
    algorithm = searching(divisors=(1, 4))
    with torch.no_grad():
        algorithm.student.width_logits[0] = torch.tensor([0.0, math.log(3)])
    found = algorithm.width_distribution()
    assert list(found) == GROUPS
    assert found[GROUPS[0]] == dict(
        widths=[8, 2], divisors=[1, 4], probabilities=pytest.approx([0.25, 0.75]), layers=[GROUPS[0]]
    )
    assert found[GROUPS[3]]['layers'] == [GROUPS[3], 'backbone.layer3.0.shortcut.0'] and found[GROUPS[3]]['widths'] == [
        16,
        4,
    ]


def test_divisors_without_1_and_masks_of_the_search():
    algorithm = searching(divisors=[2, 4], kernel_mask=0.4)
    assert algorithm.student.widths.layers[GROUPS[0]].outputs == ((0, 4),)  # the widest there is
    names = [name for name in algorithm.student.state_dict() if name.startswith('mask_')]
    assert len(names) == 4
    algorithm.begin_stage(Stage('train', iters=1))
    assert algorithm.student.settled == dict.fromkeys(GROUPS, 2)
    small = algorithm.kept_networks[''][0]
    assert (small.backbone.layer3[0].conv2.weight == 0).sum() == 3 * 8 * 8


def test_a_checkpoint_of_other_layers_is_refused():
    algorithm = searching()
    for divisors in ({'other': 2}, dict.fromkeys(GROUPS, 3)):
        with pytest.raises(ValueError, match='the checkpoint settles widths of other layers than this network has'):
            algorithm.restore_structure(
                [Stage('search', iters=1), Stage('train', iters=1)], 1, True, dict(divisors=divisors)
            )


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(divisors=(2,)), r'^a search needs two or more different divisors to choose among, got \(2,\)$'),
        (dict(divisors=()), 'a search needs two or more different divisors'),
        (dict(divisors=(1, 2, 2)), r'two or more different divisors to choose among, got \(1, 2, 2\)'),
        (dict(divisors=4), 'two or more different divisors to choose among, got 4'),
        (dict(divisors=[[1], [2]]), r'a divisor must be a whole number of at least 1, got \[1\]'),
        (dict(divisors=(1, 3)), "^a divisor=3 does not divide the 8 channels of 'backbone.layer2.0.conv1'; possible"),
        (dict(divisors=(1, 32)), 'a divisor=32 leaves none of the 8 channels'),
        (dict(divisors=(0, 2)), 'a divisor must be a whole number of at least 1, got 0'),
        (dict(divisors=(True, 2)), 'a divisor must be a whole number of at least 1, got True'),
        (dict(divisors=(1, 2.5)), 'a divisor must be a whole number of at least 1, got 2.5'),
        (dict(alpha=4), r'^a search has divisors=\(1, 2, 4\) to choose among, not alpha$'),
        (dict(gamma=-1e-10), '^the weight gamma of the cost must be at least 0, got -1e-10: it would reward cost$'),
        (dict(gamma=float('nan')), '^gamma must be a number, got nan$'),
        (dict(gamma='1e-10'), "^gamma must be a number, got '1e-10'$"),
        (dict(tau=0), '^the temperature tau must be greater than 0, got 0$'),
        (dict(tau=-1.0), 'the temperature tau must be greater than 0, got -1'),
        (dict(tau=float('inf')), '^tau must be a number, got inf$'),
        (dict(cost=dict(type='mult')), r"^a cost is one of mults, params, latency, got 'mult' .nearest: mults"),
        (dict(cost='mults'), "cost is given as dict.type='mults'., 'params' or 'latency', got 'mults'"),
        (dict(cost=dict(type='latency')), "cost 'latency' needs table="),
        (dict(above=64), 'no layer to adjoin'),
        (dict(kernel_mask=1.0), 'kernel_mask must be'),
    ],
)  # fmt: skip
def test_what_is_refused(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        searching(**options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'kinds', [['train'], ['search'], ['train', 'search'], ['search', 'search'], ['search', 'train', 'train']]
)
def test_schedules_that_are_no_search(kinds):
    with pytest.raises(
        ValueError, match=f'^the schedule of a search is search, train, got {", ".join(kinds)}: stages='
    ):
        searching().expand([Stage(kind, iters=1) for kind in kinds])


def test_stages_need_a_length():
    with pytest.raises(ValueError, match='^search: its length must be at least 1, got 0$'):
        searching().expand([Stage('search', iters=0), Stage('train', iters=1)])
    assert len(searching().expand([Stage('search', iters=1), Stage('train', epochs=1)])) == 2
