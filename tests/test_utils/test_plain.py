"""Plain data."""

import pytest
import torch

from mmrecast.utils.plain import is_plain


def test_plain_data():
    assert is_plain({'a': [1, (2.5, None)], 3: {'b': True}})


@pytest.mark.parametrize('value', [b'x', {1}, torch.zeros(1), [object()], {'a': {'b': int}}, {(1, b'x'): 1}])
def test_other_data(value):
    assert not is_plain(value)
