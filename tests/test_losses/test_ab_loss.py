import pytest
import torch

from mmrecast.losses import ABLoss
from mmrecast.registry import MODELS


def naive(s, t, margin=1.0):
    """The loss element by element, by its four cases."""
    total = 0.0
    for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True):
        if b > 0 and a <= margin:
            total += (a - margin) ** 2
        elif b <= 0 and a > -margin:
            total += (a + margin) ** 2
    return total / len(s) / 1000 * 3


def pair(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(2)]


def test_by_hand():
    s = torch.tensor([[2.0, 0.5, -2.0, -0.5], [0.0, 0.0, 1.0, -1.0]])
    t = torch.tensor([[1.0, 1.0, -1.0, -1.0], [0.1, 0.0, 3.0, -3.0]])
    squares = 0 + 0.5**2 + 0 + 0.5**2 + 1 + 1 + 0 + 0  # 0 and 0.1 of the teacher lie on different sides
    assert ABLoss()(s, t).item() == pytest.approx(squares / 2 * 3 / 1000, rel=1e-6)
    expected = 4.0 * (0 + 0 + 0 + 0 + 0.25 + 0.25 + 0 + 0) / 2 * 3 / 1000
    loss = MODELS.build(dict(type='ABLoss', loss_weight=4.0, margin=0.5))
    assert loss(s, t).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('margin', [1.0, 0.3])
def test_agrees_with_a_loop(margin):
    s, t = pair(0, 3, 4, 5, 5)
    assert ABLoss(margin=margin)(s, t).item() == pytest.approx(naive(s, t, margin), rel=1e-12)


def test_of_several_layers_each_counts_half_as_much_as_the_next():
    layers = [pair(k, 3, 2 + k, 4, 4) for k in range(3)]
    s, t = ([layer[i] for layer in layers] for i in (0, 1))
    each = [naive(*layer) for layer in layers]
    assert ABLoss()(s, t).item() == pytest.approx(each[0] / 4 + each[1] / 2 + each[2], rel=1e-12)
    even = ABLoss(loss_weight=2.0, layer_decay=1.0)
    assert even(s, t).item() == pytest.approx(2 * sum(each), rel=1e-12)


def test_the_gradient_reaches_the_student_alone():
    s, t = pair(0, 2, 3, 4, 4)
    s.requires_grad_()
    t.requires_grad_()
    ABLoss()(s, t).backward()
    assert t.grad is None
    slopes = [
        (2 * (a - 1) if a <= 1 else 0) if b > 0 else (2 * (a + 1) if a > -1 else 0)
        for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)
    ]
    assert s.grad.flatten().tolist() == pytest.approx([x / 2 * 3 / 1000 for x in slopes], rel=1e-12)


def test_mistakes():
    with pytest.raises(ValueError, match=r'ABLoss: the student has \(2, 3, 4, 4\), the teacher \(2, 6, 4, 4\)'):
        ABLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 6, 4, 4))
    with pytest.raises(ValueError, match='ABLoss: as many layers of the student as of the teacher .* got 2 and 1'):
        ABLoss()([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match='ABLoss: as many layers of the student as of the teacher .* got 0 and 0'):
        ABLoss()([], [])
    with pytest.raises(ValueError, match='ABLoss: layer_decay must be a positive number, got 0'):
        ABLoss(layer_decay=0)
