import math

import pytest
import torch

from mmrecast.losses import FTLoss
from mmrecast.registry import MODELS


def naive(s, t):
    """Mean over images and elements of |s/‖s‖ − t/‖t‖|, with plain floats."""
    total, count = 0.0, 0
    for one_s, one_t in zip(s.tolist(), t.tolist(), strict=True):
        flat = [[x for c in one for row in c for x in row] for one in (one_s, one_t)]
        norm_s, norm_t = (math.sqrt(sum(x * x for x in f)) for f in flat)
        total += sum(abs(a / norm_s - b / norm_t) for a, b in zip(*flat, strict=True))
        count += len(flat[0])
    return total / count


def test_by_hand():
    s = torch.tensor([[[[3.0]], [[4.0]]]])  # 3/5, 4/5
    t = torch.tensor([[[[5.0]], [[-12.0]]]])  # 5/13, −12/13
    expected = (abs(3 / 5 - 5 / 13) + abs(4 / 5 + 12 / 13)) / 2
    assert FTLoss()(s, t).item() == pytest.approx(expected, rel=1e-6)
    assert MODELS.build(dict(type='FTLoss', loss_weight=500.0))(s, t).item() == pytest.approx(500 * expected, rel=1e-6)


def test_agrees_with_a_loop_in_any_memory_format():
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(3, 4, 2, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    assert FTLoss()(s, t).item() == pytest.approx(naive(s, t), rel=1e-12)
    last = s.to(memory_format=torch.channels_last)
    assert FTLoss()(last, t).item() == pytest.approx(naive(s, t), rel=1e-12)


def test_the_scale_of_an_image_does_not_count_and_a_zero_factor_gives_no_nan():
    s, t = torch.rand(2, 3, 2, 2), torch.rand(2, 3, 2, 2)
    scaled = s * torch.tensor([7.0, 0.2]).view(2, 1, 1, 1)
    assert FTLoss()(scaled, t).item() == pytest.approx(FTLoss()(s, t).item(), rel=1e-5)
    zero = torch.zeros_like(s).requires_grad_()
    FTLoss()(zero, t).backward()
    assert torch.isfinite(zero.grad).all()


def test_the_gradient_reaches_the_student_alone():
    s, t = (torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    FTLoss(loss_weight=500.0)(s, t).backward()
    assert t.grad is None
    step = torch.zeros_like(s)
    step[1, 2, 0, 1] = 1e-6
    with torch.no_grad():
        slope = 500 * (naive(s + step, t) - naive(s - step, t)) / 2e-6
    assert s.grad[1, 2, 0, 1].item() == pytest.approx(slope, rel=1e-5)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'FTLoss: the student has \(2, 3, 4, 4\), the teacher \(2, 6, 4, 4\)'):
        FTLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 6, 4, 4))
    with pytest.raises(ValueError, match=r'FTLoss: factors \(N, C, H, W\) expected, got \(5,\)'):
        FTLoss()(torch.zeros(5), torch.zeros(5))
