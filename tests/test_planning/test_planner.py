"""What a planner chooses among, and what it makes of recipes made by hand."""

import re

import pytest
from tiny import SHAPE

from mmrecast.analysis.complexity import count
from mmrecast.planning.choice import cheapest
from mmrecast.planning.costs import student_by


def test_a_block_that_would_be_the_same_again_is_no_option(planner):
    names = [{option.what.name for option in own} for own in planner.options]
    widths = ((4, 4), (4, 6), (6, 8))
    for own, (before, width) in zip(names, widths, strict=True):
        assert f'kept {before}→{width}' in own and f'ConvBlock {before}→{width}' in own
        assert f'BasicBlock {before}→{width // 2}' in own
        same = before == width  # where the width changes, the target's shortcut is another one
        assert (f'BasicBlock {before}→{width}' not in own) == same
    assert [any(name.startswith('Skip') for name in own) for own in names] == [True, False, False]


def test_a_recipe_made_by_hand_is_weighed(planner):
    """By the sum over its blocks, on the line; blocks that it does not name are kept."""
    recipe = [dict(source='backbone.layer2.0', target=dict(type='ConvBlock', width_ratio=0.5))]
    choice = planner.choice_of(recipe)
    assert [option.what.name for option in choice.options] == ['kept 4→4', 'ConvBlock 4→3', 'kept 3→8']
    student = student_by(planner.teacher, planner.chain, recipe)
    mults = count(student, SHAPE, 'cifar').mults
    assert planner.weighed(choice) == (pytest.approx(mults / 1e4, rel=1e-3), choice.price)
    assert choice.price == pytest.approx(choice.options[1].price) and choice.price > 0


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (dict(type='ConvBlock', out_channels=5), r"'backbone.layer2.0' as the recipe has it \(ConvBlock 4→5\) is none"),
        (dict(type='StackedBlocks', block='ConvBlock', depth=2), r'\(StackedBlocks 4→6\) is none of the candidates'),
        (dict(type='Skip'), r'\(Skip 4→6\) is none of the candidates'),
    ],
)
def test_a_recipe_of_other_things_is_refused(planner, target, message):
    with pytest.raises(ValueError, match=message):
        planner.choice_of([dict(source='backbone.layer2.0', target=target)])


@pytest.mark.parametrize(
    ('budget', 'message'),
    [
        (dict(max_params=10), r'10 params asked for, \d+ params is the least'),
        (dict(max_mults=10), r'10 mults asked for, [\d,]+ mults is the least'),
        (dict(max_acts=10), r'10 acts asked for, [\d,]+ acts is the least'),
        (dict(speedup=1e6), r'times as fast as the teacher\) is the least'),
        (dict(max_params=10**9), 'the teacher is within the budget already'),
        (dict(), 'no budget'),
        (dict(latency_ms=float('nan')), 'latency_ms must be a number above 0, got nan'),
    ],
)
def test_what_cannot_be_planned_is_told_before_anything_is_priced(make_planner, monkeypatch, budget, message):
    planner = make_planner()
    monkeypatch.setattr(planner.prices, 'all', lambda *args: pytest.fail('priced'))
    with pytest.raises(ValueError, match=message):
        planner.plan(**budget)


def test_what_is_measured_is_what_was_predicted_here(planner):
    plan = planner.plan(speedup=1.5)
    assert plan.speedup >= 1.5 / 1.03 and plan.over == {}
    assert plan.predicted_ms == pytest.approx(plan.measured_ms, rel=0.01)


@pytest.fixture
def off(planner, monkeypatch):
    """Networks are measured as so many times as fast as they were predicted to be."""
    found = []

    def be(factor):
        def times(network, chain, choices, **how):
            predicted = [planner.line.whole(choice.cost('ms')) for choice in choices]
            found.extend(planner.teacher_ms / ms * factor for ms in predicted)
            return [(1.0, planner.teacher_ms / ms * factor) for ms in predicted]

        monkeypatch.setattr('mmrecast.planning.planner.time_choices', times)
        return found

    return be


def test_what_is_faster_than_asked_for_is_chosen_again(planner, off):
    """So is what is slower; what is taken is the best of those that were measured to be within."""
    exact = planner.plan(speedup=2)
    for factor in (1.3, 0.8):
        measured = off(factor)
        plan = planner.plan(speedup=2)
        assert plan.over == {} and plan.speedup >= 2 / 1.03
        assert len(measured) > 1 and plan.speedup <= max(measured)
        assert (plan.price < exact.price) == (factor > 1)


def test_what_is_reached_against_the_prediction_is_not_refused(planner, off):
    fastest = planner.teacher_ms / planner.fastest_ms
    with pytest.raises(ValueError, match='asked for, .* is the least'):
        planner.plan(speedup=1.1 * fastest)
    off(1.2)
    plan = planner.plan(speedup=1.1 * fastest)
    assert plan.over == {} and plan.choice.positions == cheapest(planner.options, 'ms').positions


def test_budgets_that_hold_each_for_itself_alone(make_planner):
    """Depthwise separable blocks have the fewest weights, convolutions read the fewest activations."""
    planner = make_planner(keep=False, targets=['ConvBlock', 'DepthwiseSeparable'], ratios=[1])
    least = {kind: cheapest(planner.options, kind) for kind in ('params', 'acts')}
    taken = {kind: planner.measured(choice) for kind, choice in least.items()}
    assert taken['params'].acts > taken['acts'].acts
    with pytest.raises(ValueError, match=r'is the least, each for itself, but not together; allow'):
        planner.plan(max_params=taken['params'].params, max_acts=taken['acts'].acts)


def test_a_copy_of_the_teacher_is_no_plan(planner, monkeypatch):
    """Where it is measured as fast enough by accident something is recast all the same."""
    monkeypatch.setattr('mmrecast.planning.planner.time_choices', lambda *args, **how: [(1.0, 1.2)])
    plan = planner.plan(speedup=1.04)
    assert plan.recipe and plan.over == {}
    with pytest.raises(ValueError, match='the teacher is within the budget already'):
        planner.plan(speedup=1.02)


def test_a_latency_is_one_of_now(planner, monkeypatch):
    """The machine is half as fast as when the candidates were measured."""
    lines = []
    monkeypatch.setattr(planner, 'told', lines.append)
    limit = planner.teacher_ms / 1.5
    same = planner.plan(latency_ms=limit)
    assert same.recipe == planner.plan(speedup=1.5).recipe and not lines
    monkeypatch.setattr('mmrecast.planning.planner.time_networks', lambda *a, **h: [(2 * planner.teacher_ms, 1.0)])
    assert planner.plan(latency_ms=2 * limit).recipe == same.recipe
    assert re.search(r'the teacher takes \S+ ms now, \S+ ms when', lines[0])


def test_nothing_may_be_kept(make_planner):
    """A budget of half the weights: what the blocks take is known though none of them is a candidate."""
    planner = make_planner(keep=False, targets=['ConvBlock'])
    whole = count(planner.teacher, SHAPE, 'cifar').params
    assert planner.plan(max_params=whole // 2).params <= whole // 2
    points = planner.frontier(4)
    assert points[0][0] > points[-1][0] and points[0][0] <= planner.teacher_ms


def test_of_those_that_are_ranked_the_one_that_loses_least_is_taken(planner, monkeypatch):
    losses = iter((0.3, 0.1, 0.2))
    monkeypatch.setattr(planner, 'judge', lambda student: next(losses))
    first = planner.plan(max_params=1200)
    found = planner.plan(max_params=1200, ranked=3)
    assert found.loss == 0.1 and found.recipe != first.recipe and found.price > first.price


def test_a_plan_that_stays_over_its_budget_says_by_how_much(planner, monkeypatch):
    """Of weights nothing is over; of latency 3 % are let pass, since it is measured."""

    def all_as_fast_as(speedup):
        monkeypatch.setattr('mmrecast.planning.planner.time_choices', lambda *args, **how: [(1.0, speedup)])

    weights = planner.plan(max_params=1200)
    assert weights.over == {} and weights.params <= 1200
    all_as_fast_as(1.45)
    assert planner.plan(speedup=1.5).over == {'ms': pytest.approx(1.5 / 1.45)}
    all_as_fast_as(1.5 / 1.02)
    assert planner.plan(speedup=1.5).over == {}
    all_as_fast_as(0.01)
    with pytest.raises(ValueError, match=r'ms \(0.01 times as fast as the teacher\) is the least'):
        planner.plan(speedup=1.5)


def test_the_cheapest_plan_is_taken_where_it_is_within_against_the_prediction(planner, monkeypatch):
    """Measured, it is fast enough; what was predicted to be within was not, and nothing else is left."""
    fastest = cheapest(planner.options, 'ms')

    def times(network, chain, choices, **how):
        return [(1.0, 1.5 if choice.positions == fastest.positions else 0.1) for choice in choices]

    monkeypatch.setattr('mmrecast.planning.planner.time_choices', times)
    plan = planner.plan(speedup=1.5)
    assert plan.choice.positions == fastest.positions and plan.over == {}


def test_a_budget_of_activations(planner, teacher):
    whole = count(teacher, SHAPE, 'cifar').acts
    plan = planner.plan(max_acts=int(0.7 * whole))
    assert plan.acts <= 0.7 * whole
    assert count(student_by(teacher, planner.chain, plan.recipe), SHAPE, 'cifar').acts == plan.acts
