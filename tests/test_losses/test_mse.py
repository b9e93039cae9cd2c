import pytest
import torch

from mmrecast.losses import MSELoss
from mmrecast.registry import MODELS


def test_is_the_mean_over_all_elements():
    s = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    t = torch.tensor([[1.0, 0.0, 3.0], [1.0, 5.0, 7.0]])
    assert MSELoss()(s, t).item() == pytest.approx((4 + 9 + 1) / 6)
    assert MODELS.build(dict(type='MSELoss', loss_weight=3.0))(s, t).item() == pytest.approx(7.0)


def test_agrees_with_a_loop_over_a_feature_map_and_so_does_its_gradient():
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    s.requires_grad_()
    loss = MSELoss(loss_weight=0.5)(s, t)
    loss.backward()
    pairs = list(zip(s.flatten().tolist(), t.flatten().tolist(), strict=True))
    assert loss.item() == pytest.approx(0.5 * sum((a - b) ** 2 for a, b in pairs) / 96, rel=1e-12)
    assert s.grad.flatten().tolist() == pytest.approx([(a - b) / 96 for a, b in pairs], rel=1e-12)


@pytest.mark.parametrize('shape', [(4, 1), (1, 10), (10,), (4, 10, 1, 1), ()])
def test_nothing_is_broadcast(shape):
    with pytest.raises(ValueError, match=r'the student has \(4, 10\), the teacher \(.*\); the shapes must agree'):
        MSELoss()(torch.zeros(4, 10), torch.zeros(shape))
