import math

import pytest
import torch
from softened import assert_gradient_of_the_student_alone, kl, logits, softmax

from mmrecast.losses import DKDLoss
from mmrecast.registry import MODELS

S, T, LABELS = logits(0), logits(1), torch.tensor([0, 6, 3, 3, 1])


def parts(tau: float) -> tuple[float, float]:
    """Return the sums over the batch of τ² TCKD and τ² NCKD, by the definition: the other classes renormalised."""
    target = other = 0.0
    for s, t, label in zip(S.tolist(), T.tolist(), LABELS.tolist(), strict=True):
        p_s, p_t = softmax(s, tau), softmax(t, tau)
        target += kl([p_t[label], 1 - p_t[label]], [p_s[label], 1 - p_s[label]])
        q_s, q_t = ([p / (1 - row[label]) for i, p in enumerate(row) if i != label] for row in (p_s, p_t))
        other += kl(q_t, q_s)
    return tau**2 * target, tau**2 * other


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_both_parts_against_the_formula(tau):
    tckd, nckd = parts(tau)
    loss = dict(type='DKDLoss', tau=tau, alpha=1.5, beta=8.0, loss_weight=0.5)
    expected = 0.5 * (1.5 * tckd + 8 * nckd)
    assert MODELS.build(loss)(S, T, LABELS).item() == pytest.approx(expected / 5, rel=1e-12)
    for reduction in ('sum', 'mean', 'none'):
        assert MODELS.build(dict(loss, reduction=reduction))(S, T, gt_labels=LABELS).item() == pytest.approx(expected)


def test_is_a_split_of_kl_divergence():
    """KL = TCKD + (1 − p_t[label]) NCKD (Eq. 6), here for one sample."""
    s, t, label = S[:1], T[:1], LABELS[:1]
    tckd, nckd = (DKDLoss(tau=2.0, alpha=a, beta=1 - a)(s, t, label).item() / 4 for a in (1.0, 0.0))
    p_t = softmax(T[0].tolist(), 2.0)
    whole = kl(p_t, softmax(S[0].tolist(), 2.0))
    assert tckd + (1 - p_t[label.item()]) * nckd == pytest.approx(whole, rel=1e-12)


def test_gradient():
    assert_gradient_of_the_student_alone(DKDLoss(tau=4.0, beta=2.0), S, T, LABELS)


def test_a_sure_student_has_a_finite_loss():
    """p[label] rounds to 1, so that the logarithm of the rest, taken of 1 − p, would be −∞."""
    s = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = DKDLoss(beta=0.0)(s, torch.zeros(1, 3), torch.tensor([0]))
    loss.backward()
    expected = 1 / 3 * math.log(1 / 3) + 2 / 3 * (math.log(2 / 3) + 200 - math.log(2))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert s.grad[0, 0].item() == pytest.approx(2 / 3, rel=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match=r'DKDLoss: the student has \(5, 7\), the teacher \(5, 8\)'):
        DKDLoss()(S, logits(1, classes=8), LABELS)
    with pytest.raises(ValueError, match=r'DKDLoss: logits \(5, 7\) need labels \(5,\), got \(4,\)'):
        DKDLoss()(S, T, LABELS[:4])
    with pytest.raises(ValueError, match=r'DKDLoss: logits \(N, classes\) expected, got \(5, 7, 1\)'):
        DKDLoss()(S[..., None], T[..., None], LABELS)
    with pytest.raises(ValueError, match='DKDLoss: tau must be a positive number, got 0'):
        DKDLoss(tau=0)
    with pytest.raises(ValueError, match='DKDLoss: reduction must be one of none, batchmean, sum, mean, got None'):
        DKDLoss(reduction=None)
