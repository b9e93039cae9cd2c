import math

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import SPLoss
from mmrecast.registry import MODELS


def similarities(x):
    vectors = x.reshape(len(x), -1).tolist()
    gram = [[sum(u * v for u, v in zip(a, b, strict=True)) for b in vectors] for a in vectors]
    return [[g / math.sqrt(sum(h * h for h in row)) for g in row] for row in gram]


def test_against_loops():
    s, t = feature(0, 4, 3, 2, 2), feature(1, 4, 5, 3, 3)
    pairs = zip(sum(similarities(s), []), sum(similarities(t), []), strict=True)
    expected = sum((a - b) ** 2 for a, b in pairs) / 4**2
    assert SPLoss()(s, t).item() == pytest.approx(expected, rel=1e-12)
    loss = MODELS.build(dict(type='SPLoss', loss_weight=3000.0))
    assert loss(s, t).item() == pytest.approx(3000 * expected, rel=1e-12)
    assert_gradient(loss, s, t)


def test_by_hand():
    s = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # no similarity: rows (1, 0) and (0, 1)
    t = torch.tensor([[1.0], [1.0]])  # rows (√½, √½)
    expected = 2 * ((1 - math.sqrt(0.5)) ** 2 + 0.5) / 4
    assert SPLoss()(s, t).item() == pytest.approx(expected, rel=1e-6)


def test_an_image_without_any_activation_has_no_gradient():
    s = feature(0, 4, 6)
    s[2] = 0
    s.requires_grad_()
    SPLoss()(s, feature(1, 4, 6)).backward()
    assert s.grad.abs().max() < 10
    assert s.grad[[0, 1, 3]].abs().min() > 0


def test_other_batches_are_refused():
    with pytest.raises(ValueError, match=r'SPLoss: .* the student has \(4, 6\), the teacher \(3, 6\)'):
        SPLoss()(torch.zeros(4, 6), torch.zeros(3, 6))
