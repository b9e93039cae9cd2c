import math
from itertools import product

import pytest
import torch
from features import assert_gradient, feature

from mmrecast.losses import AngleWiseRKD, DistanceWiseRKD
from mmrecast.registry import MODELS


def as_rows(x, with_l2_norm):
    vectors = x.reshape(len(x), -1).tolist()
    if with_l2_norm:
        vectors = [[v / math.sqrt(sum(u * u for u in vector)) for v in vector] for vector in vectors]
    return vectors


def huber(a, b):
    gap = abs(a - b)
    return 0.5 * gap**2 if gap < 1 else gap - 0.5


def distances(vectors):
    pairs = [math.dist(a, b) for a, b in product(vectors, vectors)]
    mean = sum(pairs) / (len(pairs) - len(vectors))
    return [d / mean for d in pairs]


def cosines(vectors):
    """Of the angle at each image between two others; 0 where one of them is the image itself."""
    values = []
    for at, one, other in product(vectors, vectors, vectors):
        a, b = ([u - v for u, v in zip(end, at, strict=True)] for end in (one, other))
        lengths = math.hypot(*a) * math.hypot(*b)
        values.append(sum(u * v for u, v in zip(a, b, strict=True)) / lengths if lengths else 0.0)
    return values


def naive(relation, s, t, with_l2_norm):
    of_s, of_t = (relation(as_rows(x, with_l2_norm)) for x in (s, t))
    return sum(map(huber, of_s, of_t)) / len(of_s)


CASES = [('DistanceWiseRKD', distances, 25.0), ('AngleWiseRKD', cosines, 50.0)]


@pytest.mark.parametrize('with_l2_norm', [True, False])
@pytest.mark.parametrize(('type_', 'relation', 'weight'), CASES)
def test_against_loops(type_, relation, weight, with_l2_norm):
    s, t = feature(0, 5, 3, 2, 2), 3 * feature(1, 5, 7) + 1
    expected = naive(relation, s, t, with_l2_norm)
    loss = MODELS.build(dict(type=type_, with_l2_norm=with_l2_norm))
    assert loss(s, t).item() == pytest.approx(weight * expected, rel=1e-9)
    loss = MODELS.build(dict(type=type_, with_l2_norm=with_l2_norm, loss_weight=2.0))
    assert loss(s, t).item() == pytest.approx(2 * expected, rel=1e-9)
    assert_gradient(loss, s, t)


def test_distances_by_hand():
    s = torch.tensor([[0.0], [1.0], [2.0]])  # distances 1, 1, 2: mean 4/3, over it 3/4, 3/4, 3/2
    t = torch.tensor([[0.0], [4.0], [0.0]])  # 4, 4, 0, of which the last counts: mean 8/3, over it 3/2, 3/2, 0
    expected = (2 * 2 * 0.5 * 0.75**2 + 2 * (1.5 - 0.5)) / 9
    assert DistanceWiseRKD(1.0, with_l2_norm=False)(s, t).item() == pytest.approx(expected, rel=1e-5)


def test_angles_by_hand():
    s = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cosines 0, √½, √½
    t = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # 1, −1, 1
    expected = 2 * (0.5 * 1**2 + (1 + math.sqrt(0.5) - 0.5) + 0.5 * (1 - math.sqrt(0.5)) ** 2) / 27
    assert AngleWiseRKD(1.0, with_l2_norm=False)(s, t).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('type_', ['DistanceWiseRKD', 'AngleWiseRKD'])
@pytest.mark.parametrize('with_l2_norm', [True, False])
def test_scale_does_not_matter(type_, with_l2_norm):
    s, loss = feature(0, 5, 4), MODELS.build(dict(type=type_, with_l2_norm=with_l2_norm))
    assert loss(s, 7 * s).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('type_', ['DistanceWiseRKD', 'AngleWiseRKD'])
@pytest.mark.parametrize('images', ['one', 'alike', 'two alike', 'dark'])
def test_the_gradient_stays_finite(type_, images):
    s, t = feature(0, 4, 6).float(), feature(1, 4, 6).float()
    if images == 'one':
        s, t = s[:1], t[:1]
    elif images == 'alike':
        s = s[:1].expand(4, 6).clone()
    elif images == 'two alike':
        s[1] = s[0]
    else:
        s[2] = 0
    s.requires_grad_()
    loss = MODELS.build(dict(type=type_))(s, t)
    loss.backward()
    assert s.grad.abs().max() < 1e3
    assert (loss.item() == 0) == (images == 'one')


@pytest.mark.parametrize('type_', ['DistanceWiseRKD', 'AngleWiseRKD'])
def test_other_batches_are_refused(type_):
    with pytest.raises(ValueError, match=rf'{type_}: .* the student has \(4, 6\), the teacher \(3, 6\)'):
        MODELS.build(dict(type=type_))(torch.zeros(4, 6), torch.zeros(3, 6))
