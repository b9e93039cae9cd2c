import math

import pytest
import torch
from softened import assert_gradient_of_the_student_alone, logits

from mmrecast.losses import L2Loss
from mmrecast.registry import MODELS

SHAPE = (3, 2, 2, 2)
S, T = logits(0, 3, 8).view(SHAPE), logits(1, 3, 8).view(SHAPE)


def unit(row: list[float], norm: float) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [norm * x / length for x in row]


@pytest.mark.parametrize('normalize', [True, False])
@pytest.mark.parametrize('mult', [1.0, 3.0])
def test_every_way_to_divide_against_loops(normalize, mult):
    s, t = S.flatten(1).tolist(), T.flatten(1).tolist()
    if normalize:
        s, t = ([unit(row, mult) for row in rows] for rows in (s, t))
    squares = sum((a - b) ** 2 for x, y in zip(s, t, strict=True) for a, b in zip(x, y, strict=True))
    loss = dict(type='L2Loss', normalize=normalize, mult=mult, loss_weight=0.7)
    assert MODELS.build(loss)(S, T).item() == pytest.approx(0.7 * squares / 3, rel=1e-12)
    assert MODELS.build(dict(loss, div_element=True))(S, T).item() == pytest.approx(0.7 * squares / 24, rel=1e-12)
    assert MODELS.build(dict(loss, dist=True))(S, T).item() == pytest.approx(0.7 * math.sqrt(squares), rel=1e-12)


def test_logits_of_ba_and_caruana_by_hand():
    """½‖z_s − z_t‖² per sample: (9 + 16) / 2 and 4 / 2."""
    s, t = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 3.0]])
    assert L2Loss(normalize=False, loss_weight=0.5)(s, t).item() == pytest.approx((12.5 + 2) / 2)


@pytest.mark.parametrize('args', [{}, dict(normalize=False), dict(dist=True)])
def test_gradient(args):
    assert_gradient_of_the_student_alone(L2Loss(**args), logits(0), logits(1))


@pytest.mark.parametrize('args', [{}, dict(dist=True), dict(normalize=False, dist=True)])
def test_gradient_is_finite_where_nothing_differs_and_where_all_is_zero(args):
    s = torch.zeros(2, 3, requires_grad=True)
    L2Loss(**args)(s, torch.zeros(2, 3)).backward()
    assert torch.equal(s.grad, torch.zeros(2, 3))


def test_any_memory_format():
    channels_last = S.contiguous(memory_format=torch.channels_last)
    assert L2Loss()(channels_last, T).item() == pytest.approx(L2Loss()(S, T).item(), rel=1e-12)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'L2Loss: the student has \(3, 2, 2, 2\), the teacher \(3, 8\)'):
        L2Loss()(S, T.flatten(1))
