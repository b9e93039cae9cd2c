import math

import pytest
import torch
from features import feature
from softened import cross_entropy, kl, logits, softmax

from mmrecast.losses import BYOTLoss
from mmrecast.registry import MODELS

LABELS = torch.tensor([3, 0, 6, 2, 2])


def one_hot(label: int) -> list[float]:
    return [float(i == label) for i in range(7)]


def terms(s: list, t: list, tau: float) -> tuple[float, float, float]:
    """Return labels, logits and feature terms by the formula, unweighted."""
    (feature_s, z_s), (feature_t, z_t) = ([x.tolist() for x in side] for side in (s, t))
    rows = list(zip(z_s, z_t, LABELS.tolist(), strict=True))
    labels = sum(cross_entropy(one_hot(y), softmax(a)) for a, _, y in rows) / 5
    soft = sum(kl(softmax(b, tau), softmax(a, tau)) for a, b, _ in rows) / 5
    squares = [(a - b) ** 2 for x, y in zip(feature_s, feature_t, strict=True) for a, b in zip(x, y, strict=True)]
    return labels, tau**2 * soft, math.sqrt(sum(squares))


@pytest.fixture
def pairs():
    return [feature(1, 5, 4), logits(2)], [feature(3, 5, 4), logits(4)]


def test_is_the_sum_of_three_terms(pairs):
    labels, soft, distance = terms(*pairs, tau=3.0)
    expected = 0.7 * labels + 0.3 * soft + 0.03 * distance
    assert BYOTLoss()(*pairs, gt_labels=LABELS).item() == pytest.approx(expected, rel=1e-12)
    weights = dict(label_weight=0.5, logit_weight=2.0, feature_weight=0.25, tau=1.5, loss_weight=3.0)
    labels, soft, distance = terms(*pairs, tau=1.5)
    expected = 3 * (0.5 * labels + 2 * soft + 0.25 * distance)
    loss = MODELS.build(dict(type='BYOTLoss', **weights))
    assert loss(*pairs, gt_labels=LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_reach_the_exit_and_not_the_deepest_layer(pairs):
    s, t = ([x.requires_grad_() for x in side] for side in pairs)
    loss = BYOTLoss()
    loss(s, t, gt_labels=LABELS).backward()
    assert all(x.grad is None for x in t)
    for i, x in enumerate(s):
        step = 1e-6 * feature(9, *x.shape)
        with torch.no_grad():
            moved = [
                loss([y + sign * step if i == j else y for j, y in enumerate(s)], t, gt_labels=LABELS)
                for sign in (1, -1)
            ]
        rise = (moved[0] - moved[1]).item() / 2
        assert abs(rise) > 1e-10 and (x.grad * step).sum().item() == pytest.approx(rise, rel=1e-4)


def test_equal_features_have_a_finite_gradient(pairs):
    s = [x.clone().requires_grad_() for x in pairs[0]]
    BYOTLoss()(s, pairs[0], gt_labels=LABELS).backward()
    assert s[0].grad.abs().max().item() == 0.0


def test_without_weight_the_feature_does_not_count(pairs):
    labels, soft, _ = terms(*pairs, tau=3.0)
    s, t = pairs
    s = [s[0] * float('inf'), s[1]]
    found = BYOTLoss(feature_weight=0.0)(s, t, gt_labels=LABELS).item()
    assert found == pytest.approx(0.7 * labels + 0.3 * soft, rel=1e-12)


def test_what_does_not_fit(pairs):
    s, t = pairs
    loss = BYOTLoss()
    with pytest.raises(
        ValueError, match=r'\[feature, logits\] of an exit .*got \[\(5, 4\), \(5, 7\)\] and \[\(5, 4\)\]'
    ):
        loss(s, t[:1], gt_labels=LABELS)
    with pytest.raises(
        ValueError, match=r"teacher=\['penultimate', 'logits'\].*got \[\(5, 4\), \(5, 7\)\] and .*\(5, 7\), "
    ):
        loss(s, t[::-1], gt_labels=LABELS)
    with pytest.raises(ValueError, match=r'\[feature, logits\] of an exit .*connector=dict\(type=.BYOTConnector'):
        loss(s[1], t[1], gt_labels=LABELS)
    with pytest.raises(ValueError, match=r'labels \(N,\) expected, got \(5, 7\) and \(4,\)'):
        loss(s, t, gt_labels=LABELS[:4])
    with pytest.raises(ValueError, match='tau must be larger than 0, got 0'):
        BYOTLoss(tau=0)
