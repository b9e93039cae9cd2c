import statistics

import pytest
import torch
from softened import assert_gradient_of_the_student_alone, kl, logits, softmax

from mmrecast.connectors import LogitStandardization
from mmrecast.losses import KLDivergence
from mmrecast.registry import MODELS

# Figure 2 of the paper: the teacher and a student of other relations, and as much of them as it prints.
TEACHER, STUDENT = [-3.0, 3.0, 1.0, -1.0], [-6.0, 3.0, 4.0, -1.0]
PRINTED = [[-1.162, 1.162, 0.387, -0.387], [-1.320, 0.660, 0.880, -0.220]]


@pytest.mark.parametrize('tau', [1.0, 2.0])
def test_against_the_formula(tau):
    z = 5 + logits(0)
    expected = [[(x - statistics.mean(row)) / statistics.stdev(row) / tau for x in row] for row in z.tolist()]
    found = MODELS.build(dict(type='LogitStandardization', tau=tau))(z).tolist()
    for row, own in zip(found, expected, strict=True):
        assert row == pytest.approx(own, rel=1e-6)  # of the 1e-7 beside the standard deviation


def test_the_worked_example_of_the_paper():
    z = LogitStandardization()(torch.tensor([TEACHER, STUDENT]))
    for row, printed in zip(z.tolist(), PRINTED, strict=True):
        assert row == pytest.approx(printed, abs=5e-4)
    assert kl(softmax(z[0].tolist()), softmax(z[1].tolist())) == pytest.approx(0.0995, abs=1e-4)  # printed


def test_a_student_of_the_same_relations_has_no_loss():
    z_t = logits(1)
    z_s = 0.1 * z_t - 2
    assert KLDivergence()(z_s, z_t).item() > 0.5
    both = LogitStandardization()
    assert KLDivergence(tau=2.0)(both(z_s), both(z_t)).item() == pytest.approx(0, abs=1e-9)


def test_the_temperature_of_the_loss_is_the_base_temperature():
    s, t = logits(0), logits(1)
    plain, halved = LogitStandardization(), LogitStandardization(tau=2.0)
    assert KLDivergence(tau=2.0)(plain(s), plain(t)).item() == pytest.approx(
        4 * KLDivergence()(halved(s), halved(t)).item()
    )


def test_gradient():
    connector, loss = LogitStandardization(), KLDivergence(tau=2.0, loss_weight=9.0)
    assert list(connector.parameters()) == []
    assert_gradient_of_the_student_alone(lambda s, t: loss(connector(s), connector(t)), logits(0), logits(1))
    s = torch.zeros(2, 3, requires_grad=True)  # a head that starts at zero
    loss(connector(s), torch.tensor([[1.0, 0.0, -1.0]] * 2)).backward()
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize('shape', [(4, 1), (4,), (4, 10, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r'logits \(N, classes\) of at least two classes expected, got \(4,'):
        LogitStandardization()(torch.zeros(shape))


@pytest.mark.parametrize('tau', [0.0, float('nan'), 'two', True])
def test_a_temperature_is_a_positive_number(tau):
    with pytest.raises(ValueError, match=f'LogitStandardization: tau must be a positive number, got {tau!r}'):
        LogitStandardization(tau=tau)
