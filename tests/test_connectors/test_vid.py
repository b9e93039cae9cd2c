import numpy as np
import pytest
import torch
from features import feature
from torch import nn

from mmrecast.connectors import VIDConnector
from mmrecast.registry import MODELS


def test_is_a_perceptron_at_each_pixel():
    connector = MODELS.build(dict(type='VIDConnector', in_channels=2, out_channels=4, mid_channels=3)).double()
    x = feature(0, 2, 2, 3, 3)
    one, two, three = (p.detach().numpy()[:, :, 0, 0] for p in connector.parameters())
    result = connector(x).detach().numpy()
    assert [w.shape for w in (one, two, three)] == [(3, 2), (3, 3), (4, 3)]
    for n, h, w in np.ndindex(2, 3, 3):
        hidden = np.maximum(two @ np.maximum(one @ x[n, :, h, w].numpy(), 0), 0)
        np.testing.assert_allclose(result[n, :, h, w], three @ hidden, rtol=1e-12)


def test_it_has_the_width_of_the_teacher_and_no_bias():
    connector = VIDConnector(2, 5)
    assert [tuple(m.weight.shape[:2]) for m in connector.modules() if isinstance(m, nn.Conv2d)] == [
        (5, 2),
        (5, 5),
        (5, 5),
    ]
    assert len(list(connector.parameters())) == 3


def test_a_larger_map_is_averaged_first():
    connector, x = VIDConnector(2, 4, pool_size=(2, 2)).double(), feature(0, 2, 2, 4, 4)
    plain = VIDConnector(2, 4).double()
    plain.load_state_dict(connector.state_dict())
    torch.testing.assert_close(connector(x), plain(x.view(2, 2, 2, 2, 2, 2).mean((3, 5))))


def test_the_size_is_inferred_where_the_teacher_is_smaller():
    assert VIDConnector.infer((16, 8, 8), (32, 4, 4)) == dict(pool_size=(4, 4))
    assert VIDConnector.infer((16, 8, 8), (32, 8, 8)) == {}
    assert VIDConnector.infer((16, 4, 4), (32, 8, 8)) == {}
    assert VIDConnector.infer((16, 8, 8), None) == {}


@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (2, 2)])
def test_other_features_are_refused(shape):
    with pytest.raises(ValueError, match=r'VIDConnector: \(N, 2, H, W\) expected, got \(2, '):
        VIDConnector(2, 4)(torch.zeros(shape))
