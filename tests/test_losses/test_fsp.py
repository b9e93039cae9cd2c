import numpy as np
import pytest
import torch

from mmrecast.losses import FSPLoss
from mmrecast.registry import MODELS


def averaged(image, size):
    """Average a numpy image (C, H, W) over equal tiles."""
    c, h, w = image.shape
    return image.reshape(c, size[0], h // size[0], size[1], w // size[1]).mean((2, 4))


def naive(s_maps, t_maps):
    """Sum over pairs of layers of the mean squared difference of G, with loops over images, channels and pixels."""
    total = 0.0
    for k in range(len(s_maps) - 1):
        squares = []
        for n in range(len(s_maps[0])):
            matrices = []
            for maps in (s_maps, t_maps):
                first, second = maps[k][n].numpy(), maps[k + 1][n].numpy()
                size = tuple(min(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True))
                first, second = averaged(first, size), averaged(second, size)
                g = np.zeros((len(first), len(second)))
                for i in range(len(first)):
                    for j in range(len(second)):
                        g[i, j] = sum(first[i, y, x] * second[j, y, x] for y in range(size[0]) for x in range(size[1]))
                matrices.append(g / (size[0] * size[1]))
            squares.append((matrices[0] - matrices[1]) ** 2)
        total += float(np.mean(squares))
    return total


def maps(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, *shape, dtype=torch.float64, generator=generator) for shape in shapes]


def test_by_hand():
    s = [torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])]  # G = ((2 + 0)/2, (1 + 3)/2)
    t = [torch.tensor([[[[1.0, 1.0]]]]), torch.tensor([[[[0.0, 0.0]], [[1.0, 3.0]]]])]  # G = (0, (1 + 3)/2)
    assert FSPLoss()(s, t).item() == pytest.approx((1**2 + 0**2) / 2)
    assert MODELS.build(dict(type='FSPLoss', loss_weight=50.0))(s, t).item() == pytest.approx(25.0)


def test_agrees_with_loops_over_several_layers_of_different_sizes():
    shapes = [(3, 4, 4), (3, 4, 4), (5, 2, 2), (2, 4, 4)]
    s, t = maps(0, *shapes), maps(1, *shapes)
    assert FSPLoss()(s, t).item() == pytest.approx(naive(s, t), rel=1e-12)


def test_the_teacher_may_have_another_size():
    s, t = maps(0, (3, 4, 4), (5, 2, 2)), maps(1, (3, 8, 8), (5, 4, 4))
    assert FSPLoss()(s, t).item() == pytest.approx(naive(s, t), rel=1e-12)


def test_the_gradient_reaches_every_layer_of_the_student_alone():
    s, t = maps(0, (3, 4, 4), (5, 2, 2), (4, 2, 2)), maps(1, (3, 4, 4), (5, 2, 2), (4, 2, 2))
    for x in (*s, *t):
        x.requires_grad_()
    FSPLoss()(s, t).backward()
    assert all(x.grad is None for x in t)
    for k in range(3):
        step = [torch.zeros_like(x) for x in s]
        step[k][1, 2, 0, 1] = 1e-5
        with torch.no_grad():
            up, down = ([x + sign * d for x, d in zip(s, step, strict=True)] for sign in (1, -1))
            slope = (naive(up, t) - naive(down, t)) / 2e-5
        assert s[k].grad[1, 2, 0, 1].item() == pytest.approx(slope, rel=1e-5)


def test_other_channels_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r'in layer 1 the student has \(2, 5, 2, 2\), the teacher \(2, 20, 2, 2\)'):
        FSPLoss()(maps(0, (3, 4, 4), (5, 2, 2)), maps(0, (3, 4, 4), (20, 2, 2)))


@pytest.mark.parametrize(
    ('s', 't', 'message'),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), 'give a list of two or more taps on either side'),
        ([torch.zeros(2, 3, 4, 4)], [torch.zeros(2, 3, 4, 4)], 'two or more layers, .* expected, got 1 and 1'),
        ([torch.zeros(2, 3, 4, 4)] * 3, [torch.zeros(2, 3, 4, 4)] * 2, 'two or more layers, .* expected, got 3 and 2'),
        ([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)] * 2, r'in layer 0 the student has \(2, 3\), the'),
    ],
)
def test_what_is_no_sequence_of_maps_is_refused(s, t, message):
    with pytest.raises(ValueError, match=message):
        FSPLoss()(s, t)
