"""Networks that a file describes are built as always, or refused before they take the memory."""

import pytest
import torch
from tiny import classifier
from torch import nn

from mmrecast.models import build_network
from mmrecast.utils.building import TENSORS, bounded_building

pytestmark = pytest.mark.usefixtures('registered')


def test_the_same_network_is_built():
    torch.manual_seed(0)
    plain = build_network(classifier()).state_dict()
    torch.manual_seed(0)
    with bounded_building('a network', 0):
        bounded = build_network(classifier()).state_dict()
    assert plain.keys() == bounded.keys() and all(torch.equal(v, bounded[k]) for k, v in plain.items())


@pytest.mark.parametrize(
    'make',
    [
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.zeros(10**6)[:, None] + torch.zeros(10**6),
        lambda: nn.Conv2d(10**5, 10**5, 1),
        lambda: [torch.empty(1 << 20) for _ in range(10**4)],
    ],
)
def test_too_large(make):
    with pytest.raises(ValueError, match='^a network cannot be built: it would take more than 1,024 MiB$'):  # noqa: SIM117
        with bounded_building('a network', 0):
            make()


def test_more_is_left_to_more_weights():
    with bounded_building('a network', 10 << 20):
        torch.empty(320 << 18)  # 320 MiB
        torch.empty(1 << 28)  # 1 GiB
    with pytest.raises(ValueError, match='more than 1,344 MiB'), bounded_building('a network', 10 << 20):
        torch.empty(2 << 28)


def test_too_many():
    with pytest.raises(ValueError, match='more than 100,000 tensors'), bounded_building('a network', 0):
        for _ in range(TENSORS + 1):
            torch.empty(1)


def test_what_a_class_says_is_told_in_one_line():
    with pytest.raises(
        ValueError, match=r'^a network cannot be built: CifarResNet takes no argument .depht. \(nearest'
    ):  # noqa: SIM117
        with bounded_building('a network', 0):
            build_network(dict(type='CifarResNet', depht=8))
