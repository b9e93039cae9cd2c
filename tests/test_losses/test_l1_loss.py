import pytest
import torch
from softened import assert_gradient_of_the_student_alone, logits

from mmrecast.losses import L1Loss
from mmrecast.registry import MODELS

S, T = torch.tensor([[1.0, -2.0, 3.0], [0.0, 5.0, -1.0]]), torch.tensor([[1.0, 2.0, 0.0], [-1.0, 5.0, 1.0]])


def test_every_reduction_by_hand():
    assert L1Loss()(S, T).item() == pytest.approx((4 + 3 + 1 + 2) / 6)
    assert MODELS.build(dict(type='L1Loss', reduction='sum', loss_weight=0.5))(S, T).item() == 5.0
    assert L1Loss(reduction='none')(S, T).tolist() == [[0.0, 4.0, 3.0], [1.0, 0.0, 2.0]]


def test_gradient():
    assert_gradient_of_the_student_alone(L1Loss(loss_weight=2.0), logits(0), logits(1))


def test_bad_input():
    with pytest.raises(ValueError, match=r'L1Loss: the student has \(2, 3\), the teacher \(2, 1\)'):
        L1Loss()(S, T[:, :1])
    with pytest.raises(ValueError, match='reduction must be one of none, mean, sum, got .batchmean.'):
        L1Loss(reduction='batchmean')
