import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import CCLoss
from mmrecast.registry import MODELS


def test_by_hand():
    s = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 1.0]])
    t = torch.tensor([[0.0, 4.0], [-3.0, 1.0], [1.0, 1.0]])
    # |s − t| = (1, 2), (3, 1), (4, 0): products 1·3 + 2·1 = 5 and 3·4 + 1·0 = 12
    assert CCLoss()(s, t).item() == pytest.approx(17 / 2)
    assert MODELS.build(dict(type='CCLoss', loss_weight=0.02))(s, t).item() == pytest.approx(0.17)


def test_the_gradient_goes_to_both_embeddings():
    assert_gradient(CCLoss(), feature(0, 5, 4), feature(1, 5, 4), to_teacher=True)


def test_one_image_has_no_neighbour():
    s = feature(0, 1, 4).requires_grad_()
    loss = CCLoss()(s, feature(1, 1, 4))
    loss.backward()
    assert loss.item() == 0 and s.grad.abs().max() == 0


@pytest.mark.parametrize('shapes', [((4, 6), (4, 5)), ((4, 6), (3, 6)), ((4, 6, 1, 1), (4, 6, 1, 1))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r'CCLoss: embeddings \(N, C\) of one shape expected, the student has \(4, 6'):
        CCLoss()(*map(torch.zeros, shapes))
