"""Plans put together by their closed forms: what they take, lose and get right."""

import pytest
import torch
from tiny import SHAPE
from torch import nn

from mmrecast.datasets import Digits
from mmrecast.planning.assembled import assembled, spread_over, top1
from mmrecast.planning.choice import Choice, Option


@pytest.fixture
def labelled():
    digits = Digits(num_samples=200)
    images = ((digits.images - 77.9) / 95.9).view(-1, *SHAPE)
    return list(zip(images.split(64), torch.as_tensor(digits.labels).split(64), strict=True))


def test_the_more_is_recast_the_more_is_lost(planner, teacher, labelled):
    kept = assembled(planner, _kept(planner), labelled)
    assert (kept.loss, kept.top1) == (pytest.approx(0, abs=1e-9), top1(teacher, labelled)) and kept.top1 > 50
    conv = [dict(source='backbone.layer*.0', target=dict(type='ConvBlock'))]
    found = assembled(planner, planner.choice_of(conv), labelled)
    assert found.loss > 0 and found.top1 < kept.top1
    assert found.ms == pytest.approx(planner.teacher_ms / found.speedup)


def _kept(planner):
    return Choice(tuple(own[0] for own in planner.options), (0,) * len(planner.options))


class Constant(nn.Module):
    def forward(self, x):
        return torch.arange(10.0).expand(len(x), 10)


def test_top1_is_per_cent_over_all_batches():
    batches = [(torch.zeros(3, 1), torch.tensor([9, 9, 1])), (torch.zeros(1, 1), torch.tensor([9]))]
    assert top1(Constant(), batches) == 75.0


@pytest.mark.parametrize(('points', 'number', 'taken'), [(9, 3, [1, 3, 6]), (5, 5, [0, 1, 2, 3, 4]), (2, 1, [0])])
def test_points_are_taken_in_even_steps_and_the_teacher_never(points, number, taken):
    class What:
        def __init__(self, target):
            self.target = target

    def choice(i, target):
        return Choice((Option(0, 0, 0.0, {}, What(target)),), (i,))

    frontier = [(9.0, 0.0, choice(-1, None)), *((1.0, 1.0, choice(i, {})) for i in range(points))]
    assert [found.positions[0] for found in spread_over(frontier, number)] == taken
