import pytest
import torch
from softened import assert_gradient_of_the_student_alone, cross_entropy, logits, softmax

from mmrecast.losses import KDSoftCELoss, KLDivergence
from mmrecast.registry import MODELS

S, T = logits(0), logits(1)


@pytest.mark.parametrize('tau', [1.0, 3.0])
@pytest.mark.parametrize('squared', [True, False])
def test_every_reduction_against_the_formula(tau, squared):
    rows = zip(S.tolist(), T.tolist(), strict=True)
    factor = 0.5 * (tau**2 if squared else 1)
    each = [factor * cross_entropy(softmax(t, tau), softmax(s, tau)) for s, t in rows]
    cfg = dict(type='KDSoftCELoss', tau=tau, mult_tem_square=squared, loss_weight=0.5)
    assert MODELS.build(cfg)(S, T).item() == pytest.approx(sum(each) / 5, rel=1e-12)
    assert MODELS.build(dict(cfg, reduction='sum'))(S, T).item() == pytest.approx(sum(each), rel=1e-12)
    assert MODELS.build(dict(cfg, reduction='none'))(S, T).tolist() == pytest.approx(each, rel=1e-12)


def test_gradient_is_that_of_kl_divergence():
    assert_gradient_of_the_student_alone(KDSoftCELoss(tau=4.0), S, T)
    grads = []
    for loss in (KDSoftCELoss(tau=4.0), KLDivergence(tau=4.0)):
        s = S.clone().requires_grad_()
        loss(s, T).backward()
        grads.append(s.grad)
    torch.testing.assert_close(*grads)


def test_bad_input():
    with pytest.raises(ValueError, match=r'KDSoftCELoss: the student has \(5, 7\), the teacher \(5, 6\)'):
        KDSoftCELoss()(S, T[:, :6])
    with pytest.raises(ValueError, match='KDSoftCELoss: reduction must be one of none, mean, sum, got .batchmean.'):
        KDSoftCELoss(reduction='batchmean')
    with pytest.raises(ValueError, match='KDSoftCELoss: tau must be a positive number, got 0'):
        KDSoftCELoss(tau=0)
