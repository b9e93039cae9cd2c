import math

import pytest
import torch
from softened import cross_entropy, logits, softmax

from mmrecast.losses import WSLD
from mmrecast.registry import MODELS

S, T, LABELS = logits(0), logits(1), torch.tensor([0, 6, 3, 3, 1])


def weights() -> list[float]:
    rows = zip(S.tolist(), T.tolist(), LABELS.tolist(), strict=True)
    hard = [(-math.log(softmax(s)[y]), -math.log(softmax(t)[y])) for s, t, y in rows]
    return [1 - math.exp(-ce_s / ce_t) for ce_s, ce_t in hard]


@pytest.mark.parametrize('tau', [1.0, 2.0])
def test_against_the_formula(tau):
    rows = zip(S.tolist(), T.tolist(), strict=True)
    soft = [cross_entropy(softmax(t, tau), softmax(s, tau)) for s, t in rows]
    expected = 2.5 * tau**2 * sum(w * x for w, x in zip(weights(), soft, strict=True)) / 5
    cfg = dict(type='WSLD', tau=tau, loss_weight=2.5, num_classes=7)
    assert MODELS.build(cfg)(S, T, gt_labels=LABELS).item() == pytest.approx(expected, rel=1e-6)  # 1e-7 beside CE_t


def test_the_weight_of_a_sample_carries_no_gradient():
    """So the gradient is that of the weighted cross entropy: w (softmax(z_s) − softmax(z_t)) / N at τ = 1."""
    s, t = S.clone().requires_grad_(), T.clone().requires_grad_()
    WSLD()(s, t, LABELS).backward()
    assert t.grad is None
    for row, w, z_s, z_t in zip(s.grad.tolist(), weights(), S.tolist(), T.tolist(), strict=True):
        expected = [w * (a - b) / 5 for a, b in zip(softmax(z_s), softmax(z_t), strict=True)]
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_student_as_sure_as_can_be_is_left_alone():
    s = torch.tensor([[50.0, 0.0]], dtype=torch.float64)
    assert WSLD()(s, torch.zeros_like(s), torch.tensor([0])).item() == pytest.approx(0, abs=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match=r'WSLD: num_classes=1000, but the logits are \(5, 7\)'):
        WSLD(num_classes=1000)(S, T, LABELS)
    with pytest.raises(ValueError, match=r'WSLD: logits \(5, 7\) need labels \(5,\), got \(5, 7\)'):
        WSLD()(S, T, T)
    with pytest.raises(ValueError, match='WSLD: tau must be a positive number, got 0.0'):
        WSLD(tau=0.0)
