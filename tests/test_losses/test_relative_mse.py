"""Squared errors over variances, by a naive loop."""

import pytest
import torch

from mmrecast.losses import MSELoss, RelativeMSELoss
from mmrecast.registry import MODELS


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(6, 3, 4, 5, generator=generator) * torch.tensor([0.1, 1.0, 10.0]).view(1, 3, 1, 1) + 2
    return t + torch.randn(t.shape, generator=generator), t


def quotients(s, t):
    found = []
    for channel in range(3):
        a, b = s[:, channel].flatten().tolist(), t[:, channel].flatten().tolist()
        middle = sum(b) / len(b)
        found.append((sum((x - y) ** 2 for x, y in zip(a, b, strict=True)), sum((y - middle) ** 2 for y in b)))
    return found


def test_by_tensor_and_by_channel(pair):
    errors, variances = zip(*quotients(*pair), strict=True)
    assert RelativeMSELoss(eps=1e-9)(*pair).item() == pytest.approx(sum(errors) / sum(variances), rel=1e-5)
    expected = sum(e / v for e, v in zip(errors, variances, strict=True)) / 3
    assert RelativeMSELoss('channel', eps=1e-9, loss_weight=2.0)(*pair).item() == pytest.approx(2 * expected, rel=1e-5)
    floor = 0.1 * sum(variances) / 3
    expected = sum(e / (v + floor) for e, v in zip(errors, variances, strict=True)) / 3
    assert RelativeMSELoss('channel', eps=0.1)(*pair).item() == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_that_of_the_mean_square_but_for_a_factor(pair):
    s, t = pair
    gradients = []
    for loss in (RelativeMSELoss(), MSELoss()):
        x = s.clone().requires_grad_(True)
        loss(x, t).backward()
        gradients.append(x.grad)
    ratio = gradients[0] / gradients[1]
    assert ratio.std() / ratio.mean() < 1e-4 and ratio.mean() > 0


def test_a_constant_teacher_gives_a_finite_number():
    s = torch.ones(2, 3, 2, 2)
    assert torch.isfinite(RelativeMSELoss('channel')(s, torch.zeros_like(s)))


def test_refused(pair):
    assert isinstance(MODELS.build(dict(type='RelativeMSELoss', unit='channel')), RelativeMSELoss)
    with pytest.raises(ValueError, match="unit must be tensor or channel, got 'chanel' .nearest: channel"):
        RelativeMSELoss('chanel')
    with pytest.raises(ValueError, match='eps must be a positive number, got 0'):
        RelativeMSELoss(eps=0)
    with pytest.raises(ValueError, match='the shapes must agree'):
        RelativeMSELoss()(pair[0][:1], pair[1])
