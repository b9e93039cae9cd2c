"""What a planner chooses among, and what it makes of recipes made by hand."""

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
