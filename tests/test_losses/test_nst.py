import math

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import NSTLoss
from mmrecast.registry import MODELS


def kernel(x, y):
    """Mean over images and pairs of channels of the squared product of their unit maps."""
    total = 0.0
    for maps in zip(x.flatten(2).tolist(), y.flatten(2).tolist(), strict=True):
        of_x, of_y = ([[v / math.hypot(*m) for v in m] for m in channels] for channels in maps)
        total += sum(sum(u * v for u, v in zip(a, b, strict=True)) ** 2 for a in of_x for b in of_y)
    return total / (len(x) * x.shape[1] * y.shape[1])


def test_against_loops():
    s, t = feature(0, 3, 2, 3, 4), feature(1, 3, 5, 3, 4)
    expected = kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)
    assert NSTLoss()(s, t).item() == pytest.approx(expected, rel=1e-12)
    loss = MODELS.build(dict(type='NSTLoss', loss_weight=50.0))
    assert loss(s, t).item() == pytest.approx(50 * expected, rel=1e-12)
    assert_gradient(loss, s, t)


def test_by_hand():
    s = torch.tensor([[[[2.0, 0.0]]]])  # fires on the left
    t = torch.tensor([[[[5.0, 0.0]], [[0.0, 1.0]]]])  # one channel on each side
    # k(t, t) = (1 + 0 + 0 + 1) / 4, k(s, s) = 1, k(s, t) = (1 + 0) / 2
    assert NSTLoss()(s, t).item() == pytest.approx(0.5 + 1 - 2 * 0.5)


def test_the_larger_map_is_averaged():
    s, t = feature(0, 2, 3, 4, 4), feature(1, 2, 3, 2, 2)
    pooled = s.view(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert NSTLoss()(s, t).item() == pytest.approx(NSTLoss()(pooled, t).item(), rel=1e-12)
    assert NSTLoss()(t, s).item() == pytest.approx(NSTLoss()(t, pooled).item(), rel=1e-12)


def test_a_channel_that_never_fires():
    s = feature(0, 2, 3, 4, 4)
    s[:, 1] = 0
    s.requires_grad_()
    NSTLoss()(s, feature(1, 2, 3, 4, 4)).backward()
    assert s.grad[:, 1].abs().max() == 0
    assert 0 < s.grad.abs().max() < 10


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'NSTLoss: maps .* the student has \(2, 3\), the teacher \(2, 3, 4, 4\)'):
        NSTLoss()(torch.zeros(2, 3), torch.zeros(2, 3, 4, 4))
