import math

import pytest
import torch
from features import feature

from mmrecast.connectors import CRDConnector
from mmrecast.registry import MODELS


def test_is_the_direction_of_a_linear_embedding():
    connector = CRDConnector(2, 2)
    with torch.no_grad():
        connector.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 4.0]]))
        connector.linear.bias.copy_(torch.tensor([0.0, -1.0]))
    assert connector(torch.tensor([[1.0, 1.0]])).tolist() == [pytest.approx([math.sqrt(0.5)] * 2)]  # of (3, 3)
    norms = MODELS.build(dict(type='CRDConnector', dim_in=12)).double()(feature(0, 5, 3, 2, 2)).norm(dim=1)
    assert norms.tolist() == pytest.approx([1.0] * 5)


def test_its_size_is_inferred_from_the_whole_feature():
    assert CRDConnector.infer((8, 4, 4), (128,)) == dict(dim_in=128)


def test_other_features_are_refused():
    with pytest.raises(ValueError, match=r'CRDConnector: \(N, …\) with 1024 elements per image expected, got \(2, 8\)'):
        CRDConnector()(torch.zeros(2, 8))
