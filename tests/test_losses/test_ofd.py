import pytest
import torch

from mmrecast.losses import OFDLoss
from mmrecast.registry import MODELS


def naive(s, t):
    """Sum of the squares that count, element by element, per image and thousand."""
    total = 0.0
    for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True):
        if a > b or b > 0:
            total += (a - b) ** 2
    return total / len(s) / 1000


def pair(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(2)]


def test_by_hand():
    s = torch.tensor([[3.0, 0.0, -2.0, 1.0], [-0.5, -1.0, 0.0, 0.0]])
    t = torch.tensor([[1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, 0.0, -0.5]])
    squares = 4 + 1 + 0 + 4 + 0.25 + 0 + 0 + 0.25  # the third: both below zero, the student the lower one
    assert OFDLoss()(s, t).item() == pytest.approx(squares / 2 / 1000, rel=1e-6)
    loss = MODELS.build(dict(type='OFDLoss', loss_weight=3.0, mul_factor=10.0))
    assert loss(s, t).item() == pytest.approx(3 * squares / 2 / 10, rel=1e-6)


def test_agrees_with_a_loop():
    s, t = pair(0, 3, 4, 5, 5)
    assert OFDLoss()(s, t).item() == pytest.approx(naive(s, t), rel=1e-12)


def test_of_several_layers_each_counts_half_as_much_as_the_next():
    layers = [pair(k, 3, 2 + k, 4, 4) for k in range(3)]
    s, t = ([layer[i] for layer in layers] for i in (0, 1))
    each = [naive(*layer) for layer in layers]
    assert OFDLoss()(s, t).item() == pytest.approx(each[0] / 4 + each[1] / 2 + each[2], rel=1e-12)


def test_the_gradient_reaches_the_student_alone():
    s, t = pair(0, 2, 3, 4, 4)
    s.requires_grad_()
    t.requires_grad_()
    OFDLoss()(s, t).backward()
    assert t.grad is None
    slopes = [
        2 * (a - b) / 2 / 1000 if a > b or b > 0 else 0.0
        for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)
    ]
    assert s.grad.flatten().tolist() == pytest.approx(slopes, rel=1e-12)


def test_mistakes():
    with pytest.raises(ValueError, match=r'OFDLoss: the student has \(2, 3, 4, 4\), the teacher \(2, 3, 2, 2\)'):
        OFDLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2))
    with pytest.raises(ValueError, match='OFDLoss: as many layers of the student as of the teacher .* got 1 and 2'):
        OFDLoss()(torch.zeros(2, 3), [torch.zeros(2, 3)] * 2)
    with pytest.raises(ValueError, match='OFDLoss: mul_factor must be a positive number, got 0'):
        OFDLoss(mul_factor=0)
    with pytest.raises(ValueError, match='OFDLoss: layer_decay must be a positive number, got -1'):
        OFDLoss(layer_decay=-1)
