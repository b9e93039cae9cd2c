import pytest
import torch
from torch import nn

from mmrecast.connectors import ConvModuleConnector
from mmrecast.registry import MODELS


def test_is_a_convolution_with_a_bias_and_a_relu():
    connector = ConvModuleConnector(2, 1)
    conv = connector.conv_module.conv
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
        conv.bias.fill_(0.5)
    feature = torch.tensor([[[[1.0, 0.0]], [[1.0, 3.0]]]])  # (1, 2, 1, 2)
    assert connector(feature).tolist() == [[[[1.5, 0.0]]]]  # 2·1 − 1 + 0.5 and max(0, −3 + 0.5)


def test_without_activation_it_is_linear_and_with_a_norm_it_has_no_bias():
    cfg = dict(
        type='ConvModuleConnector',
        in_channel=4,
        out_channel=8,
        kernel_size=3,
        stride=2,
        padding=1,
        norm_cfg=dict(type='BN'),
        act_cfg=None,
    )
    connector = MODELS.build(cfg).double().eval()
    conv, bn = connector.conv_module.conv, connector.conv_module.bn
    assert conv.bias is None
    assert isinstance(bn, nn.BatchNorm2d)
    bn.running_mean.fill_(0.25)
    bn.running_var.fill_(4.0)
    feature = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    expected = (nn.functional.conv2d(feature, conv.weight, stride=2, padding=1) - 0.25) / (4 + bn.eps) ** 0.5
    torch.testing.assert_close(connector(feature), expected)
    assert expected.min() < 0


def test_a_bias_and_groups_can_be_asked_for():
    connector = ConvModuleConnector(4, 8, groups=2, bias=True, norm_cfg=dict(type='BN'))
    assert connector.conv_module.conv.weight.shape == (8, 2, 1, 1)
    assert connector.conv_module.conv.bias.shape == (8,)


@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (2, 4)])
def test_another_feature_is_refused(shape):
    with pytest.raises(ValueError, match=r'ConvModuleConnector: \(N, 4, H, W\) expected, got \(2,'):
        ConvModuleConnector(4, 8)(torch.zeros(shape))
