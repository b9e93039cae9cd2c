"""What a planner chooses among, and what it makes of recipes made by hand."""

import pytest
from tiny import SHAPE

from mmrecast.planning import latencies
from mmrecast.planning.costs import Line
from mmrecast.planning.planner import Planner


@pytest.fixture
def planner(teacher, images, monkeypatch):
    """Of three basic blocks with 4, 6 and 8 channels; a line through so few rounds may fall."""
    monkeypatch.setattr(latencies, 'line_through', lambda *args, **how: Line(2.0, 0.25))
    return Planner(teacher, SHAPE, *images, ratios=(1, 0.5), repeats=1, warmup=0)


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
    ms = sum(option.costs['ms'] for option in choice.options)
    assert planner.weighed(recipe) == (pytest.approx(0.25 + 2 * ms), choice.price)
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
        planner.weighed([dict(source='backbone.layer2.0', target=target)])


@pytest.mark.parametrize(
    ('budget', 'message'),
    [
        (dict(max_params=10), r'10 params asked for, \d+ params is the least'),
        (dict(max_mults=10), r'10 mults asked for, [\d,]+ mults is the least'),
        (dict(speedup=1e6), r'times as fast as the teacher\) is the least'),
        (dict(max_params=10**9), 'the teacher is within the budget already'),
        (dict(), 'no budget'),
        (dict(latency_ms=float('nan')), 'latency_ms must be a number above 0, got nan'),
    ],
)
def test_what_cannot_be_planned_is_told_before_anything_is_priced(planner, monkeypatch, budget, message):
    monkeypatch.setattr(planner.prices, 'all', lambda *args: pytest.fail('priced'))
    with pytest.raises(ValueError, match=message):
        planner.plan(**budget)
