"""A layout with which torch spoils its heap on some CPUs is avoided, and only there."""

import pytest
import torch
from torch import nn

from mmrecast.engine.layout import avoid_broken_layout


def model(*layers: nn.Module, channels_last: bool = True) -> nn.Module:
    whole = nn.Sequential(*layers)
    whole.data_preprocessor = nn.Module()
    whole.data_preprocessor.channels_last = channels_last
    return whole


@pytest.fixture
def avx2(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX2')


@pytest.mark.parametrize(
    ('layer', 'off'),
    [
        (nn.Conv2d(4, 8, 1, stride=2), True),
        (nn.Conv2d(16, 16, 1, stride=2, groups=4), True),
        (nn.Conv2d(8, 16, 1, stride=2), False),
        (nn.Conv2d(4, 8, 3, stride=2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Linear(4, 8), False),
    ],
)
def test_only_narrow_strided_shortcuts_turn_it_off(layer, off, avx2):
    net = model(nn.ReLU(), layer)
    assert (avoid_broken_layout(net) == repr(layer)) is off
    assert net.data_preprocessor.channels_last is not off


def test_other_cpus_and_layouts_are_left_alone(monkeypatch):
    narrow = nn.Conv2d(4, 8, 1, stride=2)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX512')
    net = model(narrow)
    assert avoid_broken_layout(net) is None and net.data_preprocessor.channels_last
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX2')
    plain = model(narrow, channels_last=False)
    assert avoid_broken_layout(plain) is None and not plain.data_preprocessor.channels_last
    assert avoid_broken_layout(nn.Sequential(narrow)) is None


def test_a_network_that_is_held_without_being_a_submodule_counts(avx2):
    net = model(nn.ReLU())
    net[0].__dict__['held'] = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2))
    assert avoid_broken_layout(net) and not net.data_preprocessor.channels_last
