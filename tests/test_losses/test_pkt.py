import math

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import PKTLoss
from mmrecast.registry import MODELS


def neighbours(x, eps=1e-7):
    vectors = [[v / (math.hypot(*vector) + eps) for v in vector] for vector in x.flatten(1).tolist()]
    kernels = [[(sum(u * v for u, v in zip(a, b, strict=True)) + 1) / 2 for b in vectors] for a in vectors]
    return [k / sum(row) for row in kernels for k in row]


def test_against_loops():
    s, t = feature(0, 4, 6), feature(1, 4, 2, 2, 2)
    pairs = zip(neighbours(s), neighbours(t), strict=True)
    expected = sum(q * math.log((q + 1e-7) / (p + 1e-7)) for p, q in pairs) / 4**2
    assert PKTLoss()(s, t).item() == pytest.approx(expected, rel=1e-9)
    loss = MODELS.build(dict(type='PKTLoss', loss_weight=30000.0))
    assert loss(s, t).item() == pytest.approx(30000 * expected, rel=1e-9)
    assert_gradient(loss, s, t)


def test_by_hand():
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # cosine 0: probabilities 2/3 and 1/3
    t = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # cosine −1: 1 and 0
    assert PKTLoss()(s, t).item() == pytest.approx(2 * math.log(3 / 2) / 4, rel=1e-5)


def test_a_zero_feature_has_no_gradient():
    s = feature(0, 4, 6)
    s[2] = 0
    s.requires_grad_()
    PKTLoss()(s, feature(1, 4, 6)).backward()
    assert s.grad[2].abs().max() == 0
    assert s.grad[[0, 1, 3]].abs().min() > 0


def test_bad_input():
    with pytest.raises(ValueError, match=r'PKTLoss: .* the student has \(4, 6\), the teacher \(3, 6\)'):
        PKTLoss()(torch.zeros(4, 6), torch.zeros(3, 6))
    with pytest.raises(ValueError, match='PKTLoss: eps must be a positive number, got 0'):
        PKTLoss(eps=0)
