"""CWD, PKD, MGD and FBKD against their formulas written out in numpy, element by element, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mmrecast.losses import ChannelWiseDivergence, FBKDLoss, MGDLoss, PKDLoss
from mmrecast.registry import MODELS

SHAPE = (2, 3, 4, 5)


def maps(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def cwd(s: np.ndarray, t: np.ndarray, tau: float) -> float:
    total = 0.0
    for n in range(s.shape[0]):
        for c in range(s.shape[1]):
            p, q = ([math.exp(v / tau) for v in x[n, c].flatten()] for x in (t, s))
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total / (s.shape[0] * s.shape[1])


def pkd(s: np.ndarray, t: np.ndarray) -> float:
    n = s[:, 0].size
    correlations = [np.corrcoef(s[:, c].flatten(), t[:, c].flatten())[0, 1] for c in range(s.shape[1])]
    return (1 - 1 / n) * (1 - float(np.mean(correlations)))


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W): pixel centres stand at half-integers, and what lies outside takes the border's value."""
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * x.shape[0] / height - 0.5, 0)
            z = max((j + 0.5) * x.shape[1] / width - 0.5, 0)
            a, b = int(y), int(z)
            c, d = min(a + 1, x.shape[0] - 1), min(b + 1, x.shape[1] - 1)
            u, v = y - a, z - b
            out[i, j] = (1 - u) * ((1 - v) * x[a, b] + v * x[a, d]) + u * ((1 - v) * x[c, b] + v * x[c, d])
    return out


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array([[bilinear(channel, height, width) for channel in image] for image in x])


@pytest.mark.parametrize('tau', [0.5, 1.0, 4.0])
def test_cwd_is_the_divergence_of_the_channels_maps(tau):
    s, t = maps(SHAPE, SHAPE)
    loss = MODELS.build(dict(type='ChannelWiseDivergence', tau=tau, loss_weight=5.0))
    assert loss(s, t).item() == pytest.approx(5 * cwd(s.numpy(), t.numpy(), tau), rel=1e-10)
    assert loss(t + 3, t).item() == pytest.approx(0, abs=1e-12)  # a constant added to a map changes nothing


def test_cwd_by_hand():
    s = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    t = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).view(1, 1, 1, 2)  # softmax: 1/4, 3/4
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert ChannelWiseDivergence()(s, t).item() == pytest.approx(expected, rel=1e-12)


def test_pkd_is_one_minus_the_correlation():
    s, t = maps(SHAPE, SHAPE)
    loss = MODELS.build(dict(type='PKDLoss', loss_weight=6.0))
    assert loss(s, t).item() == pytest.approx(6 * pkd(s.numpy(), t.numpy()), rel=1e-5)  # 1e-6 in the denominators
    assert loss(0.3 * t + 2, t).item() == pytest.approx(0, abs=1e-8)
    assert loss(-t, t).item() == pytest.approx(6 * 2 * (1 - 1 / 40), rel=1e-5)


@pytest.mark.parametrize('student', [(2, 3, 8, 10), (2, 3, 3, 5), (2, 3, 4, 7)])
def test_pkd_resizes_one_of_the_two(student):
    s, t = maps(student, SHAPE)
    assert PKDLoss()(s, t).item() == pytest.approx(pkd(resized(s.numpy(), 4, 5), t.numpy()), rel=1e-5)
    found = PKDLoss(resize_stu=False)(s, t).item()
    assert found == pytest.approx(pkd(s.numpy(), resized(t.numpy(), *student[2:])), rel=1e-5)


def test_pkd_of_a_dead_channel_has_a_finite_gradient():
    s, t = maps(SHAPE, SHAPE)
    s[:, 1] = 0
    s.requires_grad_()
    PKDLoss()(s, t).backward()
    assert torch.isfinite(s.grad).all()
    assert s.grad[:, 0].abs().sum() > 0


def test_mgd_is_the_sum_of_squares_per_image():
    s, t = maps(SHAPE, SHAPE)
    pairs = zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)
    total = sum((a - b) ** 2 for a, b in pairs)
    assert MGDLoss()(s, t).item() == pytest.approx(2e-5 * total / 2, rel=1e-12)
    loss = MODELS.build(dict(type='MGDLoss', alpha_mgd=7e-5, loss_weight=3.0))
    assert loss(s, t).item() == pytest.approx(3 * 7e-5 * total / 2, rel=1e-12)


def fbkd_inputs() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    n, c, h, w = SHAPE
    place, channel = (n, 1, h, w), (n, c, 1, 1)
    masks = [m.exp() for m in maps(place, channel, place, channel, seed=1)]
    s = (*masks[:2], *maps((n, c), place, SHAPE, SHAPE, seed=2))
    return s, (*masks[2:], *maps(place, SHAPE, SHAPE, seed=3))


def fbkd(s: list[np.ndarray], t: list[np.ndarray], weights: tuple[float, ...]) -> float:
    n, c, h, w = SHAPE
    sums = [0.0] * 4
    for i in range(n):
        for k in range(c):
            mean = sum(t[4][i, k, y, x] for y in range(h) for x in range(w)) / (h * w)
            sums[1] += (mean - s[2][i, k]) ** 2
            for y in range(h):
                for x in range(w):
                    mask = (s[0][i, 0, y, x] + t[0][i, 0, y, x]) / 2
                    sums[0] += mask * (s[5][i, k, y, x] - t[4][i, k, y, x]) ** 2
                    sums[3] += (s[4][i, k, y, x] - t[3][i, k, y, x]) ** 2
        sums[2] += ((s[3][i] - t[2][i]) ** 2).sum()
    return sum(weight * math.sqrt(total) for weight, total in zip(weights, sums, strict=True))


@pytest.mark.parametrize('weights', [(7e-5, 4e-3, 4e-3, 7e-5), (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 2.0, 3.0)])
def test_fbkd_is_four_distances(weights):
    s, t = fbkd_inputs()
    names = ('mask_l2_weight', 'channel_weight', 'spatial_weight', 'nonloacl_weight')
    loss = MODELS.build(dict(zip(names, weights, strict=True), type='FBKDLoss', loss_weight=2.0))
    expected = 2 * fbkd([x.numpy() for x in s], [x.numpy() for x in t], weights)
    assert loss(s, t).item() == pytest.approx(expected, rel=1e-12)


def test_fbkd_gradients_reach_the_student_and_the_teachers_relation_alone():
    s, t = ([x.requires_grad_() for x in side] for side in fbkd_inputs())
    FBKDLoss()(s, t).backward()
    assert [x.grad is not None for x in s] == [False, False, True, True, True, True]  # the masks only weigh
    assert [x.grad is not None for x in t] == [False, False, False, True, False]


def test_fbkd_of_equal_features_has_a_finite_gradient():
    s, t = fbkd_inputs()
    s = (*s[:5], t[4].clone().requires_grad_())
    FBKDLoss()(s, t).backward()
    assert s[5].grad.abs().max() == 0


@pytest.mark.parametrize('loss', [ChannelWiseDivergence(), PKDLoss(), MGDLoss()])
def test_gradients_reach_the_student_and_not_the_teacher(loss):
    s, t = (x.requires_grad_() for x in maps(SHAPE, SHAPE))
    loss(s, t).backward()
    assert s.grad.abs().sum() > 0
    assert t.grad is None


@pytest.mark.parametrize('loss', [ChannelWiseDivergence(tau=2.0), PKDLoss(), MGDLoss()])
def test_gradients_are_those_of_finite_differences(loss):
    s, t = maps(SHAPE, SHAPE)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), s.requires_grad_())


@pytest.mark.parametrize(
    ('loss', 'student', 'message'),
    [
        (ChannelWiseDivergence(), (2, 3, 4, 4), r'the student has \(2, 3, 4, 4\), the teacher \(2, 3, 4, 5\)'),
        (ChannelWiseDivergence(), (2, 4, 4, 5), r'the student has \(2, 4, 4, 5\), the teacher \(2, 3, 4, 5\)'),
        (PKDLoss(), (2, 4, 4, 5), r'the student has \(2, 4, 4, 5\), the teacher \(2, 3, 4, 5\)'),
        (PKDLoss(), (2, 3), r'the student has \(2, 3\), the teacher \(2, 3, 4, 5\)'),
        (MGDLoss(), (2, 3, 4, 1), r'the student has \(2, 3, 4, 1\), the teacher \(2, 3, 4, 5\); the shapes must agree'),
    ],
)
def test_other_shapes_are_refused(loss, student, message):
    with pytest.raises(ValueError, match=f'^{type(loss).__name__}: .*{message}'):
        loss(torch.zeros(student), torch.zeros(SHAPE))


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match='ChannelWiseDivergence: tau must be a positive number, got 0'):
        ChannelWiseDivergence(tau=0)
    with pytest.raises(ValueError, match=r'ChannelWiseDivergence: maps \(N, C, H, W\) expected, got \(2, 3\)'):
        ChannelWiseDivergence()(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r'one value per channel has no correlation, got \(1, 3, 1, 1\)'):
        PKDLoss()(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))
    s, t = fbkd_inputs()
    with pytest.raises(ValueError, match='needs connector=dict.type=FBKDStudentConnector. and teacher_connector='):
        FBKDLoss()(s[5], t[4])
    with pytest.raises(ValueError, match='which give six and five tensors'):
        FBKDLoss()(t, t)
    with pytest.raises(ValueError, match=r'FBKDLoss: the student has \(2, 3, 4, 4\), the teacher \(2, 3, 4, 5\)'):
        FBKDLoss()((*s[:5], torch.zeros(2, 3, 4, 4)), t)
