import pytest
import torch
from softened import assert_gradient_of_the_student_alone, correlation, logits, softmax

from mmrecast.losses import DISTLoss
from mmrecast.registry import MODELS

S, T = logits(0), logits(1)


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_rows_and_columns_against_the_formula(tau):
    s, t = ([softmax(row, tau) for row in z.tolist()] for z in (S, T))
    inter = 1 - sum(correlation(a, b) for a, b in zip(s, t, strict=True)) / 5
    columns = zip(zip(*s, strict=True), zip(*t, strict=True), strict=True)
    intra = 1 - sum(correlation(list(a), list(b)) for a, b in columns) / 7
    cfg = dict(type='DISTLoss', inter_loss_weight=0.3, intra_loss_weight=0.6, tau=tau, loss_weight=2.0)
    expected = 2 * tau**2 * (0.3 * inter + 0.6 * intra)
    assert MODELS.build(cfg)(S, T).item() == pytest.approx(expected, rel=1e-6)  # of MMRazor's 1e-8 beside the norms


def test_a_sharper_student_of_the_same_relations_has_no_loss():
    """Rows a linear function of the teacher's, so all correlations are 1, although the predictions differ."""
    t = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.2, 0.3], [0.3, 0.5, 0.2]], dtype=torch.float64)
    s = 1.5 * t - 0.5 / 3
    assert DISTLoss()(s.log(), t.log()).item() == pytest.approx(0, abs=1e-6)


def test_gradient():
    assert_gradient_of_the_student_alone(DISTLoss(), S, T)
    t = T.clone().requires_grad_()
    DISTLoss(teacher_detach=False)(S, t).backward()
    assert t.grad.abs().sum() > 0.01


def test_equal_logits_have_a_finite_gradient():
    s = torch.zeros(4, 3, requires_grad=True)
    loss = DISTLoss()(s, logits(1, 4, 3).float())
    loss.backward()
    assert loss.item() == pytest.approx(2) and torch.isfinite(s.grad).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r'DISTLoss: the student has \(5, 7\), the teacher \(4, 7\)'):
        DISTLoss()(S, T[:4])
    with pytest.raises(ValueError, match='DISTLoss: tau must be a positive number, got -1'):
        DISTLoss(tau=-1)
