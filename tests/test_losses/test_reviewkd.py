import numpy as np
import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import HCLoss
from mmrecast.registry import MODELS


def mean_of_squares(s, t, size):
    """MSE of maps averaged over blocks to ``size``, in numpy."""
    n, c, h, w = s.shape
    blocks = [x.numpy().reshape(n, c, size, h // size, size, w // size).mean((3, 5)) for x in (s, t)]
    return float(np.mean((blocks[0] - blocks[1]) ** 2))


def test_a_large_map_counts_at_four_scales():
    s, t = feature(0, 2, 3, 8, 8), feature(1, 2, 3, 8, 8)
    parts = [mean_of_squares(s, t, size) for size in (8, 4, 2, 1)]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4 + parts[3] / 8) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert HCLoss()(s, t).item() == pytest.approx(expected, rel=1e-12)
    assert_gradient(HCLoss(), s, t)


def test_small_maps_and_vectors_in_a_list():
    s = [feature(0, 2, 3, 4, 4), feature(1, 2, 5)]
    t = [feature(2, 2, 3, 4, 4), feature(3, 2, 5, 1, 1)]
    of_map = [mean_of_squares(s[0], t[0], size) for size in (4, 2, 1)]
    of_vector = float(((s[1].numpy() - t[1].numpy()[:, :, 0, 0]) ** 2).mean())
    expected = (of_map[0] + of_map[1] / 2 + of_map[2] / 4) / 1.75 + of_vector
    loss = MODELS.build(dict(type='HCLoss', loss_weight=5.0))
    assert loss(s, t).item() == pytest.approx(5 * expected, rel=1e-12)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'HCLoss: the student has \(2, 3, 4, 4\), the teacher \(2, 3, 8, 8\); maps'):
        HCLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match='HCLoss: 2 maps of the student, 1 of the teacher'):
        HCLoss()([torch.zeros(2, 3)] * 2, [torch.zeros(2, 3)])
