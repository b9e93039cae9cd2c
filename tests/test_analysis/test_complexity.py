import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrecast.analysis.complexity import convention_for, count


def plain_network(widths: list[int], strides: list[int]) -> nn.Module:
    layers, c_in = [], 3
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(c_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


def torchvision_network(name: str) -> nn.Module:
    import torchvision  # after mmrecast, which mends the import where torch is a CPU build

    with torch.device('meta'):  # shapes are all that counting needs
        return getattr(torchvision.models, name)(weights=None)


def test_resnet56_to_conv_has_the_published_counts():
    widths = [16] + [16] * 9 + [32] * 9 + [64] * 9
    strides = [1] + [1] * 9 + [2] + [1] * 8 + [2] + [1] * 8
    got = count(plain_network(widths, strides), (3, 32, 32))
    # inputs: image, stem + 8 outputs + last of stage 1 at 16x32x32 (10), 9 at 32x16x16, 8 at 64x8x8
    acts = 3 * 1024 + 10 * 16 * 1024 + 9 * 32 * 256 + 8 * 64 * 64
    weights = 432 + 9 * 2304 + 4608 + 8 * 9216 + 18432 + 8 * 36864
    mults = (432 + 9 * 2304) * 1024 + (4608 + 8 * 9216) * 256 + (18432 + 8 * 36864) * 64
    assert weights == 412_848
    assert (got.params, got.mults, got.acts) == (weights, mults, acts)
    assert f'{mults / 1e6:.2f} {acts / 1e6:.2f}' == '61.78 0.27'
    assert len(got.rows) == 28


@pytest.mark.parametrize(
    ('name', 'params', 'mults', 'acts'),
    [  # Table 4; exact values worked out from layer tables, millions as printed
        ('resnet50', '25.50', '4089', '11.57'),
        ('vgg16', '138.34', '15470', '15.24'),
        ('densenet121', '7.89', '2834', '16.52'),
    ],
)
def test_ilsvrc_baselines(name, params, mults, acts):
    network = torchvision_network(name)
    got = count(network, (3, 224, 224), 'imagenet')
    assert (f'{got.params / 1e6:.2f}', f'{got.mults / 1e6:.0f}', f'{got.acts / 1e6:.2f}') == (
        params,
        mults,
        acts,
    )


def test_vgg16_without_the_image_is_the_printed_figure():
    got = count(torchvision_network('vgg16'), (3, 224, 224), 'imagenet')
    assert got.rows[0].acts == 3 * 224 * 224
    assert f'{(got.acts - got.rows[0].acts) / 1e6:.2f}' == '15.09'


class Functional(nn.Module):
    """One convolution that fires twice, pools and a global mean called as functions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(self.conv(x))
        x = F.avg_pool2d(F.max_pool2d(x, 2), 2)
        return self.fc(x.mean((2, 3)))


def test_functional_pools_and_shared_weights():
    got = count(Functional(), (4, 8, 8))
    assert got.params == 4 * 4 * 9
    assert got.mults == 2 * 4 * 4 * 9 * 64
    assert got.acts == 2 * 256 + 256 + 64
    assert [(r.path, r.type, r.calls) for r in got.rows] == [
        ('conv', 'Conv2d', 2),
        ('', 'F.max_pool2d', 1),
        ('', 'F.avg_pool2d', 1),
    ]
    more = count(Functional(), (4, 8, 8), 'imagenet')
    assert more.params == got.params + 8
    assert more.mults == got.mults + 8
    assert more.acts == got.acts + 16 + 4


def test_grouped_transposed_and_padded_convolutions():
    assert count(nn.Conv2d(8, 16, 3, padding=1, groups=4), (8, 5, 5)).mults == 16 * 2 * 9 * 25
    up = count(nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4))
    assert (up.mults, up.rows[0].out_shape) == (2 * 3 * 4 * 16, (3, 8, 8))
    assert count(nn.Conv2d(2, 2, 3, padding=1, padding_mode='reflect'), (2, 4, 4)).acts == 32


def test_pool_that_keeps_the_shape_reads_nothing():
    assert count(nn.AdaptiveAvgPool2d(4), (2, 4, 4), 'imagenet').acts == 0
    assert count(nn.AdaptiveAvgPool2d(1), (2, 4, 4), 'cifar').acts == 0
    assert count(nn.AdaptiveAvgPool2d(1), (2, 4, 4), 'imagenet').acts == 32


def test_attention_is_named_as_uncounted():
    class Attention(nn.Module):
        def forward(self, x):
            x = x.flatten(2)
            return F.scaled_dot_product_attention(x, x, x) @ x.transpose(1, 2)

    assert count(Attention(), (4, 2, 2)).uncounted == ('matmul', 'scaled_dot_product_attention')


def test_network_is_left_as_it_was():
    class Counting(nn.BatchNorm2d):
        def forward(self, x):
            self.num_batches_tracked += 1
            return super().forward(x)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), Counting(4), nn.Dropout())
    network.train()
    network[1].eval()
    modes = [m.training for m in network.modules()]
    before = {k: v.clone() for k, v in network.state_dict().items()}
    count(network, (3, 8, 8))
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_part_of_a_network():
    network = nn.ModuleDict(dict(a=nn.Conv2d(3, 4, 1), ab=nn.Conv2d(4, 5, 1)))
    network.forward = lambda x: network['ab'](network['a'](x))
    got = count(network, (3, 2, 2))
    assert (got.under('a').params, got.under('a', 'ab').params) == (12, 32)


def test_errors():
    with pytest.raises(ValueError, match="unknown counting convention 'coco'; expected one of cifar, imagenet"):
        count(nn.Conv2d(3, 4, 1), (3, 8, 8), 'coco')
    with pytest.raises(ValueError, match=r'Conv2d cannot be run on input shape \(1, 8, 8\): .*channels'):
        count(nn.Conv2d(3, 4, 1), (1, 8, 8))
    with pytest.raises(ValueError, match='input_shape must be positive integers'):
        count(nn.Conv2d(3, 4, 1), (3, 0, 8))


def test_convention_for():
    assert (convention_for((3, 32, 32)), convention_for((3, 224, 224))) == ('cifar', 'imagenet')
