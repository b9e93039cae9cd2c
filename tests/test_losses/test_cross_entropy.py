import math

import pytest
import torch

from mmrecast.losses import CrossEntropyLoss
from mmrecast.registry import MODELS

LOGITS = [[0.0, math.log(3.0)], [math.log(4.0), 0.0]]  # softmax: (1/4, 3/4), (4/5, 1/5)


def test_is_the_mean_negative_log_likelihood():
    loss = CrossEntropyLoss()(torch.tensor(LOGITS), torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 5)) / 2, rel=1e-6)


def test_weight_and_smoothing():
    loss = MODELS.build(dict(type='CrossEntropyLoss', loss_weight=2.0, label_smoothing=0.2))
    expected = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4) + 0.9 * math.log(4 / 5) + 0.1 * math.log(1 / 5))
    assert loss(torch.tensor(LOGITS), torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(('logits', 'labels'), [((4, 10), (3,)), ((4, 10), (4, 10)), ((4, 10, 1), (4,))])
def test_other_shapes_are_refused(logits, labels):
    with pytest.raises(ValueError, match=r'logits \(N, classes\) and labels \(N,\) expected, got'):
        CrossEntropyLoss()(torch.zeros(logits), torch.zeros(labels, dtype=torch.long))


@pytest.mark.parametrize('smoothing', [-0.1, 1.5])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(ValueError, match=rf'label_smoothing must lie in \[0, 1\], got {smoothing}'):
        CrossEntropyLoss(label_smoothing=smoothing)
