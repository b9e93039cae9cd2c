"""What was unpickled comes back plain, and nothing that stands for more than the file holds."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from mmrecast.utils.settling import OversizeError, settle


def laughs(levels: int) -> list:
    value: list = ['ha']
    for _ in range(levels):
        value = [value, value]
    return value


def test_plain_data_and_tensors_come_back_as_they_are():
    tensor = torch.arange(6.0).view(2, 3).t()
    value = {'a': [1, (2.5, None, True)], 3: tensor, 'n': np.ones(2), 'same': tensor}
    settled = settle(value, 1000)
    assert settled is value and settled['a'] == [1, (2.5, None, True)]
    assert settled[3] is tensor and settled['same'] is tensor


def test_parameters_become_tensors_and_keep_their_memory():
    parameter = nn.Parameter(torch.ones(2))
    parameter.mine = 3
    settled = settle([parameter, parameter], 1000)
    assert type(settled[0]) is torch.Tensor and settled[0] is settled[1]
    assert settled[0].data_ptr() == parameter.data_ptr() and not settled[0].requires_grad


def test_of_a_state_dicts_attributes_the_versions_stay():
    state = nn.BatchNorm2d(2).state_dict()
    state.items = 3
    settled = settle(state, 1000)
    assert len(settled.items()) == 5 and settled._metadata[''] == dict(version=2)
    state._metadata = OrderedDict(x=dict(version='2'))
    assert not hasattr(settle(state, 1000), '_metadata')


def test_what_is_shared_counts_each_time():
    assert settle(laughs(10), 100) == laughs(10)
    with pytest.raises(OversizeError, match='it stands for far more than its 100 bytes hold'):
        settle(laughs(60), 100)
    with pytest.raises(OversizeError, match='far more'):
        settle(['x' * 1000] * 2000, 100)
    assert len(settle(['x' * 1000] * 2000, 10**6)) == 2000


def test_depth_and_circles():
    deep: list = []
    for _ in range(98):
        deep = [deep]
    settle(deep, 100)
    with pytest.raises(OversizeError, match='nested more than 100 deep'):
        settle([[deep]], 100)
    circle: list = []
    circle.append(circle)
    with pytest.raises(OversizeError, match='far more'):
        settle(circle, 100)


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        (torch.zeros(1).expand(10**12), r'it has 100 bytes, and a tensor in it is of shape \(1000000000000,\)'),
        (torch.zeros(3, device='meta'), 'a tensor without values'),
        (torch.zeros(3).to_sparse(), 'a tensor that is not dense'),
        (torch.zeros(3).untyped_storage(), 'a storage without its tensor'),
        (np.array([None]), 'holds a ndarray'),
        (nn.Linear(1, 1), 'holds a Linear'),
    ],
)
def test_what_no_checkpoint_holds(value, said):
    with pytest.raises(ValueError, match=said):
        settle({'x': [value]}, 100)
