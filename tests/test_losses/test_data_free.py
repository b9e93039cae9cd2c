import math

import pytest
import torch
from features import assert_gradient, feature
from softened import logits, softmax

from mmrecast.losses import ActivationLoss, DiscrepancyLoss, InformationEntropyLoss, OnehotLikeLoss
from mmrecast.registry import MODELS


def test_one_hot_is_the_surprise_at_the_largest_class():
    z = logits(1)
    expected = sum(-math.log(max(softmax(row))) for row in z.tolist()) / len(z)
    assert OnehotLikeLoss()(z).item() == pytest.approx(expected, rel=1e-12)
    assert MODELS.build(dict(type='OnehotLikeLoss', loss_weight=0.05))(z).item() == pytest.approx(0.05 * expected)
    assert OnehotLikeLoss()(torch.tensor([[60.0, 0.0, 0.0]])).item() == pytest.approx(0.0, abs=1e-12)


def test_entropy_is_that_of_the_mean_probabilities_to_base_ten():
    z = logits(2, samples=6, classes=4)
    rows = [softmax(row) for row in z.tolist()]
    mean = [sum(column) / 6 for column in zip(*rows, strict=True)]
    expected = sum(p * math.log(p, 10) for p in mean)
    assert InformationEntropyLoss()(z).item() == pytest.approx(expected, rel=1e-12)
    assert MODELS.build(dict(type='InformationEntropyLoss', loss_weight=5.0))(z).item() == pytest.approx(5 * expected)
    balanced = 50.0 * torch.eye(10)  # each image sure of another class
    assert InformationEntropyLoss(gather=False)(balanced).item() == pytest.approx(-1.0, rel=1e-6)
    assert InformationEntropyLoss()(balanced[:1]).item() == pytest.approx(0.0, abs=1e-6)


def test_a_class_that_never_comes_leaves_entropy_and_gradient_finite():
    z = torch.tensor([[0.0, -1e4, 1.0], [1.0, -1e4, 0.0]], requires_grad=True)
    loss = InformationEntropyLoss()(z)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log10(2), rel=1e-6)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize('shape', [(5, 6), (2, 3, 4, 4)])
def test_activation_is_the_negative_size_of_the_feature(shape):
    x = feature(3, *shape)
    values = x.flatten().tolist()
    assert ActivationLoss()(x).item() == pytest.approx(-sum(map(abs, values)) / len(values), rel=1e-12)
    norm = MODELS.build(dict(type='ActivationLoss', norm_type='norm', loss_weight=0.1))
    assert norm(x).item() == pytest.approx(-0.1 * math.sqrt(sum(v * v for v in values)), rel=1e-12)


def test_discrepancy_is_the_mean_difference():
    s, t = logits(4), logits(5)
    pairs = list(zip(s.flatten().tolist(), t.flatten().tolist(), strict=True))
    expected = -2 * sum(abs(a - b) for a, b in pairs) / len(pairs)
    assert MODELS.build(dict(type='DiscrepancyLoss', loss_weight=-2.0))(s, t).item() == pytest.approx(expected)
    assert_gradient(DiscrepancyLoss(), s, t, to_teacher=True)


@pytest.mark.parametrize(
    'loss', [OnehotLikeLoss(), InformationEntropyLoss(), ActivationLoss(), ActivationLoss(norm_type='norm')]
)
def test_the_gradient_goes_through_the_teacher(loss):
    """To the images, that is; compared with central differences."""
    z = logits(6).requires_grad_()
    loss(z).backward()
    step = 1e-6 * feature(7, *z.shape)
    with torch.no_grad():
        rise = loss(z + step) - loss(z - step)
    assert abs(rise) > 1e-9
    assert (z.grad * step).sum().item() == pytest.approx(rise.item() / 2, rel=1e-5)


def test_wrong_shapes_and_arguments():
    for loss in (OnehotLikeLoss(), InformationEntropyLoss()):
        with pytest.raises(
            ValueError, match=rf'{type(loss).__name__}: logits \(N, classes\) expected, got \(2, 3, 4\)'
        ):
            loss(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="norm_type must be 'abs' or 'norm', got 'l1'"):
        ActivationLoss(norm_type='l1')
    with pytest.raises(ValueError, match=r'the student has \(4, 1\), the teacher \(4, 10\); the shapes must agree'):
        DiscrepancyLoss()(torch.zeros(4, 1), torch.zeros(4, 10))
