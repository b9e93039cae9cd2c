"""Which numbers of a network are not finite."""

import pytest
import torch
from torch import nn

from mmrecast.utils.finite import first_not_finite, not_finite_samples, weights_of


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_the_first_is_named(value):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    assert first_not_finite(weights_of(network)) is None
    network[1].running_var[1] = value
    assert first_not_finite(weights_of(network)) == '1.running_var'
    network[2].weight.data[0, 1] = value
    assert first_not_finite(weights_of(network)) == '2.weight'


def test_a_mask_may_hold_infinity():
    network = nn.Linear(1, 1)
    network.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
    assert first_not_finite(weights_of(network)) is None


def test_whole_numbers_and_nothing():
    assert first_not_finite([('steps', torch.tensor(3)), ('none', torch.empty(0))]) is None
    assert first_not_finite([]) is None


def test_samples():
    images = torch.zeros(4, 1, 2, 2)
    images[1, 0, 1, 0], images[3, 0, 0, 0] = float('nan'), float('inf')
    assert not_finite_samples(images) == [1, 3] and not_finite_samples(torch.zeros(2, 1, 2, 2).byte()) == []
