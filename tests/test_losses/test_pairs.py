import pytest
import torch
from features import feature
from torch import nn

from mmrecast.losses.pairs import rows, same_size, unit

LOSS = nn.Identity()  # stands for the loss that asks


def test_rows_are_the_images_and_the_teacher_is_detached():
    s, t = feature(0, 3, 2, 2, 2).requires_grad_(), feature(1, 3, 5).requires_grad_()
    student, teacher = rows(LOSS, s, t)
    assert student[1].tolist() == s[1].reshape(-1).tolist()
    assert teacher.tolist() == t.tolist()
    assert student.requires_grad and not teacher.requires_grad


@pytest.mark.parametrize('shapes', [((3, 4), (2, 4)), ((3,), (3, 4)), ((3, 4), ())])
def test_rows_need_the_same_images(shapes):
    with pytest.raises(ValueError, match=r'Identity: features \(N, …\) of the same N images expected, the student has'):
        rows(LOSS, *map(torch.zeros, shapes))


@pytest.mark.parametrize('swapped', [False, True])
def test_the_larger_map_is_averaged_in_each_direction(swapped):
    large, small = feature(0, 2, 3, 4, 3), feature(1, 2, 5, 2, 6)  # one is higher, the other wider
    pair = same_size(LOSS, *((small, large) if swapped else (large, small)))
    a, b = pair[::-1] if swapped else pair
    assert a.tolist() == large.view(2, 3, 2, 2, 3).mean(3).tolist()
    torch.testing.assert_close(b, small.view(2, 5, 2, 3, 2).mean(4))


def test_maps_of_one_size_stay_and_the_teacher_is_detached():
    s, t = feature(0, 2, 3, 4, 4), feature(1, 2, 5, 4, 4).requires_grad_()
    student, teacher = same_size(LOSS, s, t)
    assert student is s
    assert teacher.tolist() == t.tolist() and not teacher.requires_grad


@pytest.mark.parametrize('shapes', [((2, 3), (2, 3, 4, 4)), ((2, 3, 4, 4), (3, 3, 4, 4))])
def test_same_size_needs_maps(shapes):
    with pytest.raises(
        ValueError, match=r'Identity: maps \(N, C, H, W\) of the same N images expected, the student has'
    ):
        same_size(LOSS, *map(torch.zeros, shapes))


def test_unit_vectors_and_a_zero_vector_without_gradient():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = unit(x, 1)
    assert y.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    y.sum().backward()
    # d(a + b)/√(a² + b²) = (b² − ab, a² − ab) / 125
    assert x.grad.tolist() == [[pytest.approx(4 / 125), pytest.approx(-3 / 125)], [0.0, 0.0]]
    assert unit(x, 1, eps=5.0)[0].tolist() == pytest.approx([0.3, 0.4])
