import math

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import VIDLoss
from mmrecast.registry import MODELS


def negative_log_likelihood(mean, target, alphas, eps):
    """Mean over all elements of what a Gaussian gives, without the constant."""
    total = 0.0
    for n in range(len(mean)):
        for c, alpha in enumerate(alphas):
            variance = math.log(1 + math.exp(alpha)) + eps
            for m, t in zip(mean[n, c].flatten().tolist(), target[n, c].flatten().tolist(), strict=True):
                total += 0.5 * ((m - t) ** 2 / variance + math.log(variance))
    return total / mean.numel()


def test_by_hand_at_the_start():
    loss = VIDLoss(2)
    mean, target = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert loss(mean, target).item() == pytest.approx(0.5 * ((1 + 9) / 2 / 5 + math.log(5)), rel=1e-5)
    assert VIDLoss(1, init_pred_var=0.5)(mean[:, :1], target[:, :1]).item() == pytest.approx(
        0.5 * (1 / 0.5 + math.log(0.5)), rel=1e-5
    )


def test_a_list_against_loops_and_the_gradients():
    loss = MODELS.build(dict(type='VIDLoss', channels=[3, 2], loss_weight=2.0, eps=1e-3)).double()
    alphas = ([0.3, -1.0, 2.0], [-4.0, 1.0])
    with torch.no_grad():
        for parameter, values in zip(loss.parameters(), alphas, strict=True):
            parameter.copy_(torch.tensor(values, dtype=torch.float64))
    s = [feature(0, 2, 3, 4, 4), feature(1, 2, 2, 2, 3)]
    t = [feature(2, 2, 3, 4, 4).requires_grad_(), feature(3, 2, 2, 2, 3)]
    expected = sum(map(negative_log_likelihood, s, t, alphas, (1e-3, 1e-3)))
    value = loss(s, t)
    assert value.item() == pytest.approx(2 * expected, rel=1e-12)
    value.backward()
    assert t[0].grad is None
    for parameter, pair, values in zip(loss.parameters(), zip(s, t, strict=True), alphas, strict=True):
        for c in range(len(values)):
            moved = [[v + h * (i == c) for i, v in enumerate(values)] for h in (1e-5, -1e-5)]
            rise = [negative_log_likelihood(*pair, alpha, 1e-3) for alpha in moved]
            assert parameter.grad[c].item() == pytest.approx(2 * (rise[0] - rise[1]) / 2e-5, rel=1e-6)


def test_the_gradient_reaches_the_student_alone():
    assert_gradient(VIDLoss(3).double(), feature(0, 2, 3, 4, 4), feature(1, 2, 3, 4, 4))


def test_the_larger_map_is_averaged():
    loss, mean, target = VIDLoss(3).double(), feature(0, 2, 3, 2, 2), feature(1, 2, 3, 4, 4)
    pooled = target.view(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert loss(mean, target).item() == pytest.approx(loss(mean, pooled).item(), rel=1e-12)


def test_channels_are_inferred_from_the_teacher():
    assert VIDLoss.infer((16, 8, 8), (32, 8, 8)) == dict(channels=32)
    assert VIDLoss.infer([(16, 8, 8), (32, 4, 4)], [(64, 8, 8), (48, 4, 4)]) == dict(channels=[64, 48])


def test_a_large_scale_does_not_overflow():
    loss = VIDLoss(1)
    with torch.no_grad():
        loss.log_scales[0].fill_(200.0)
    assert loss(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item() == pytest.approx(0.5 * math.log(200), rel=1e-5)


@pytest.mark.parametrize('channels', [0, [], [3, 0], [2.5], 'three'])
def test_channels_are_whole_numbers(channels):
    with pytest.raises(ValueError, match='VIDLoss: channels must be one positive whole number per tap, got '):
        VIDLoss(channels)


@pytest.mark.parametrize('arguments', [dict(init_pred_var=0.0), dict(init_pred_var=1e-6), dict(eps=0.0)])
def test_variances_are_positive(arguments):
    with pytest.raises(ValueError, match='VIDLoss: init_pred_var > eps > 0 expected, got '):
        VIDLoss(3, **arguments)


def test_other_maps_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r'VIDLoss: 2 pair\(s\) of maps expected, got 1 of the student and 1 of the'):
        VIDLoss([3, 3])(x, x)
    with pytest.raises(ValueError, match=r'VIDLoss: 4 channels expected, the student has \(2, 3, 4, 4\), the teacher'):
        VIDLoss(4)(x, torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r'VIDLoss: maps \(N, C, H, W\) of the same N images expected'):
        VIDLoss(3)(x, torch.zeros(2, 3))
