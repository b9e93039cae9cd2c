import math

import pytest
import torch
from softened import assert_gradient_of_the_student_alone, kl, logits, softmax

from mmrecast.losses import KLDivergence
from mmrecast.registry import MODELS

S, T = logits(0), logits(1)


def test_by_hand():
    """Predictions (1/4, 3/4) of the student, (1/2, 1/2) of the teacher."""
    s = torch.tensor([[0.0, math.log(3.0)]])
    t = torch.zeros(1, 2)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert KLDivergence()(s, t).item() == pytest.approx(expected, rel=1e-6)
    assert KLDivergence(tau=2.0)(2 * s, t).item() == pytest.approx(4 * expected, rel=1e-6)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_every_reduction_against_the_formula(tau):
    rows = list(zip(S.tolist(), T.tolist(), strict=True))
    divergences = [tau**2 * kl(softmax(t, tau), softmax(s, tau)) for s, t in rows]
    expected = dict(sum=sum(divergences), batchmean=sum(divergences) / 5, mean=sum(divergences) / 35)
    for reduction, value in expected.items():
        cfg = dict(type='KLDivergence', tau=tau, reduction=reduction, loss_weight=0.9)
        assert MODELS.build(cfg)(S, T).item() == pytest.approx(0.9 * value, rel=1e-12), reduction
    elements = KLDivergence(tau=tau, reduction='none')(S, T)
    assert elements.shape == (5, 7)
    assert elements.sum(1).tolist() == pytest.approx(divergences, rel=1e-12)


def test_classes_of_a_map_lie_along_dimension_1():
    s, t = (z.reshape(1, 5, 7, 1).transpose(1, 2) for z in (S, T))  # (1, 7, 5, 1): five places of seven classes
    assert KLDivergence(tau=2.0)(s, t).item() == pytest.approx(KLDivergence(tau=2.0, reduction='sum')(S, T).item())


def test_gradient():
    assert_gradient_of_the_student_alone(KLDivergence(tau=4.0), S, T)
    t = T.clone().requires_grad_()
    KLDivergence(teacher_detach=False)(S, t).backward()
    assert t.grad.abs().sum() > 0.1


def test_predictions_that_underflow_stay_finite():
    s = torch.tensor([[0.0, 2000.0, -2000.0]], requires_grad=True)
    loss = KLDivergence()(s, -s.detach())
    loss.backward()
    assert loss.item() == 4000 and torch.isfinite(s.grad).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r'the student has \(4, 10\), the teacher \(4, 1\); the shapes must agree'):
        KLDivergence()(torch.zeros(4, 10), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r'logits \(N, classes, …\) expected, got \(10,\)'):
        KLDivergence()(torch.zeros(10), torch.zeros(10))
    with pytest.raises(ValueError, match='reduction must be one of none, .*, mean, got .means. .nearest: mean'):
        KLDivergence(reduction='means')


@pytest.mark.parametrize('tau', [0, -1.0, math.inf, math.nan, '4', True])
def test_a_temperature_is_a_positive_number(tau):
    with pytest.raises(ValueError, match=f'KLDivergence: tau must be a positive number, got {tau!r}'):
        KLDivergence(tau=tau)
