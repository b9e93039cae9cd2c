import pytest
import torch
from features import feature

from mmrecast.connectors import LinearEmbed
from mmrecast.registry import MODELS


def test_is_a_matrix_and_a_bias_on_the_flattened_feature():
    connector = MODELS.build(dict(type='LinearEmbed', dim_in=8, dim_out=3)).double()
    x = feature(0, 2, 2, 2, 2)
    weight, bias = connector.linear.weight.tolist(), connector.linear.bias.tolist()
    for row, image in zip(connector(x).tolist(), x.reshape(2, -1).tolist(), strict=True):
        assert row == [
            pytest.approx(b + sum(w * v for w, v in zip(ws, image, strict=True)), rel=1e-12)
            for ws, b in zip(weight, bias, strict=True)
        ]


def test_its_size_is_inferred_from_the_whole_feature():
    assert LinearEmbed.infer((64,), None) == dict(dim_in=64)
    assert LinearEmbed.infer((8, 4, 4), (2,)) == dict(dim_in=128)
    assert LinearEmbed(4).linear.out_features == 128


@pytest.mark.parametrize('shape', [(2, 7), (2, 2, 2, 1), (8,)])
def test_other_features_are_refused(shape):
    with pytest.raises(ValueError, match=r'LinearEmbed: \(N, …\) with 8 elements per image expected, got \('):
        LinearEmbed(8)(torch.zeros(shape))
