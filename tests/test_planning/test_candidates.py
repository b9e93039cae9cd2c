"""What blocks may become, by hand on a network of three blocks, and what is refused."""

import copy
import itertools

import pytest
import torch
from tiny import SHAPE, PlainNet, tensors

from mmrecast.planning.candidates import candidates_of
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.plan import make_plan


def test_every_target_at_every_width(teacher):
    """Blocks of 4, 6 and 8 channels; half of a width at every joint, and behind the last one, which the head reads."""
    before = tensors(teacher)
    first, second, third = candidates_of(teacher, SHAPE, targets=['ConvBlock'], ratios=(0.5,))
    assert [c.name for c in first] == ['kept 4→4', 'ConvBlock 4→4', 'ConvBlock 4→2']
    assert [c.name for c in second] == [
        'kept 4→6', 'ConvBlock 4→6', 'ConvBlock 4→3', 'kept 2→6', 'ConvBlock 2→6', 'ConvBlock 2→3'
    ]  # fmt: skip
    assert {(c.in_channels, c.out_channels) for c in third} == {(6, 8), (6, 4), (3, 8), (3, 4)}
    assert all(c.enters == c.in_channels and c.leaves == c.out_channels for c in (*first, *second))
    assert all(torch.equal(value, before[name]) for name, value in tensors(teacher).items())


def test_every_agreeing_path_is_a_plan_that_runs(teacher, chain, candidates):
    """Of all of them, a fifth: each is carried out and run once, shapes compared."""
    paths = [
        path
        for path in itertools.product(*candidates)
        if all(a.leaves == b.enters for a, b in itertools.pairwise(path)) and any(c.target for c in path)
    ]
    assert len(paths) > 500
    for path in paths[:: len(paths) // 60]:
        plan = make_plan(teacher, [c.rule for c in path if c.rule], SHAPE, chain)
        assert [(e.in_channels, e.out_channels) for e in plan.entries] == [
            (c.in_channels, c.out_channels) for c in path
        ]
        check_plan(copy.deepcopy(teacher), plan)


def test_widths_that_cannot_change_and_targets_that_do_not_fit():
    """A network of the user's, whose blocks have no describer: they cannot be rebuilt for another width."""
    found = candidates_of(PlainNet(), SHAPE, targets=['ConvBlock', 'DepthwiseSeparable'], blocks=['block1'])
    assert len(found) == 3
    for own in found[:-1]:
        assert {(c.in_channels, c.out_channels) for c in own} == {(6, 6)}
        assert [c.name.split()[0] for c in own] == ['kept', 'ConvBlock', 'DepthwiseSeparable']
    assert {c.in_channels for c in found[-1]} == {6}
    assert {c.out_channels for c in found[-1] if c.target} == {6, 5, 3, 2}  # the fully connected layer takes them up
    dense_only = candidates_of(PlainNet(), SHAPE, targets=['DenseBlock'], blocks=['block1'])
    assert all(c.target is None or c.target['type'] == 'DenseBlock' for own in dense_only for c in own)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(ratios=(0.0,)), ValueError, 'a ratio of widths must be above 0 and at most 1, got 0.0'),
        (dict(ratios=(2,)), ValueError, 'must be above 0 and at most 1, got 2'),
        (dict(targets=['Convblock']), KeyError, 'is not registered in mmrecast.block .nearest: ConvBlock'),
        (dict(targets=[dict(type='ConvBlock', out_channels=3)]), ValueError, 'leave out_channels out'),
        (dict(blocks=['block9']), ValueError, "block path 'block9' matches nothing"),
        (dict(targets=[], keep=False), ValueError, "nothing fits block 'block1'; give other targets, or keep=True"),
        (dict(blocks=()), ValueError, 'has no chain of blocks: name its blocks'),
    ],
)
def test_mistakes(options, error, message):
    with pytest.raises(error, match=message):
        candidates_of(PlainNet(), SHAPE, **(dict(blocks=['block1']) | options))
