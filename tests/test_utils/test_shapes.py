"""Shapes of images."""

import pytest

from mmrecast.utils.shapes import check_shape


def test_shapes():
    assert check_shape([3, 32, 32]) == (3, 32, 32) == check_shape((3, 32, 32))


@pytest.mark.parametrize('shape', [None, 3, '3xx', [3, 32], [3, 0, 32], [3, 32, True], [3, 32.0, 32], [3, -1, -1]])
def test_no_shapes(shape):
    with pytest.raises(ValueError, match=r'an input shape is three numbers \(C, H, W\) of at least 1, got'):
        check_shape(shape)


def test_too_large():
    with pytest.raises(ValueError, match='an input shape has at most 67,108,864 numbers, got .3, 10000, 10000.'):
        check_shape((3, 10_000, 10_000))
