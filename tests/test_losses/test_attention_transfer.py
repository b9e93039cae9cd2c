import math

import numpy as np
import pytest
import torch

from mmrecast.losses import ATLoss
from mmrecast.registry import MODELS


def naive(s, t):
    """Mean over images and pixels of the squared difference of the attention vectors, in numpy."""
    vectors = []
    for maps in (s.numpy(), t.numpy()):
        attention = np.zeros((maps.shape[0], maps.shape[2] * maps.shape[3]))
        for n, image in enumerate(maps):
            for channel in image:
                attention[n] += channel.reshape(-1) ** 2
            attention[n] /= math.sqrt((attention[n] ** 2).sum())  # a mean over the channels would cancel here
        vectors.append(attention)
    return float(((vectors[0] - vectors[1]) ** 2).mean())


def test_by_hand():
    s = torch.tensor([[[[1.0, 1.0]], [[math.sqrt(5.0), math.sqrt(7.0)]]]])  # means of squares 3, 4: q = (0.6, 0.8)
    t = torch.tensor([[[[0.0, 2.0]]]])  # q = (0, 1)
    assert ATLoss()(s, t).item() == pytest.approx((0.6**2 + 0.2**2) / 2, rel=1e-6)
    assert MODELS.build(dict(type='ATLoss', loss_weight=1000.0))(s, t).item() == pytest.approx(200.0, rel=1e-6)


def test_agrees_with_a_loop_for_other_channels():
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=generator)
    t = torch.randn(3, 7, 4, 5, dtype=torch.float64, generator=generator)
    assert ATLoss()(s, t).item() == pytest.approx(naive(s, t), rel=1e-12)


@pytest.mark.parametrize('larger', ['student', 'teacher'])
def test_the_larger_map_is_averaged_to_the_smaller(larger):
    generator = torch.Generator().manual_seed(1)
    big = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=generator)
    small = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=generator)
    averaged = torch.from_numpy(big.numpy().reshape(2, 3, 2, 2, 3, 2).mean((3, 5)))
    pair = (big, small) if larger == 'student' else (small, big)
    assert ATLoss()(*pair).item() == pytest.approx(naive(averaged, small), rel=1e-12)


def test_the_gradient_reaches_the_student_alone():
    s = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    t = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    ATLoss(loss_weight=1000.0)(s, t).backward()
    assert t.grad is None
    step = torch.zeros_like(s)
    step[1, 2, 0, 3] = 1e-5
    with torch.no_grad():
        slope = 1000 * (naive(s + step, t) - naive(s - step, t)) / 2e-5
    assert s.grad[1, 2, 0, 3].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(('s', 't'), [((2, 3), (2, 3)), ((2, 3, 4, 4), (3, 3, 4, 4)), ((2, 3, 4, 4), (2, 3, 16))])
def test_what_are_no_maps_of_the_same_images_is_refused(s, t):
    with pytest.raises(ValueError, match=r'ATLoss: maps \(N, C, H, W\) of the same N images expected, the student has'):
        ATLoss()(torch.zeros(s), torch.zeros(t))
