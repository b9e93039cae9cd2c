import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrecast.analysis.complexity import convention_for, count, fvcore_totals


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


class Chain(nn.Module):
    """Stem, two blocks with functional pooling between them, head; the first block is a span of two modules."""

    def __init__(self):
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.behind, self.two = nn.Conv2d(5, 5, 1), nn.Sequential(nn.Conv2d(5, 6, 1), nn.Conv2d(6, 7, 1))
        self.onetwo, self.fc = nn.Conv2d(7, 8, 1), nn.Linear(8, 9)

    def forward(self, x):
        x = F.max_pool2d(self.behind(self.one(self.stem(x))), 2)
        return self.fc(self.onetwo(self.two(x)).mean((2, 3)))


def test_parts_leave_nothing_out():
    got = count(Chain(), (3, 4, 4), 'imagenet')
    parts = got.parts([('one', 'behind'), ('two',)])
    assert [(p.kind, p.name, p.count.params, p.count.mults, p.count.acts) for p in parts] == [
        ('stem', 'stem', 108, 108 * 16, 3 * 16),
        ('block', 'one', 20 + 25, 45 * 16, 4 * 16 + 5 * 16),
        ('glue', 'glue behind one', 0, 0, 5 * 16),
        ('block', 'two', 30 + 42, 72 * 4, 5 * 4 + 6 * 4),
        ('head', 'head', 56 + 72, 56 * 4 + 72, 7 * 4 + 8 * 4 + 8),
    ]
    assert [row for part in parts for row in part.count.rows] == list(got.rows)


def test_parts_without_glue_or_counted_layers():
    got = count(nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 1)), (3, 2, 2))
    assert [(p.name, p.count.params) for p in got.parts([('0',), ('1',)])] == [('0', 0), ('1', 12)]
    assert [(p.name, p.kind, p.count.params) for p in got.parts([])] == [('stem', 'stem', 12)]


def test_fvcore_totals_of_resnet50():
    network = torchvision_network('resnet50').to_empty(device='cpu')
    got = fvcore_totals(network, (3, 224, 224))
    rows = count(network, (3, 224, 224), 'imagenet').rows
    written = {True: 0, False: 0}  # by fully connected layers, by convolutions
    for row in rows:
        if row.mults:
            written[row.type == 'Linear'] += torch.Size(row.out_shape).numel() * row.calls
    operators = got.flops_by_operator
    assert got.params == 25_557_032
    assert (operators['conv'], operators['linear']) == (4_087_136_256, 2_048_000)  # 4.09 G
    assert operators['batch_norm'] == 2 * written[False]
    assert operators['adaptive_avg_pool2d'] == 2048 * 7 * 7
    assert got.flops == sum(operators.values())
    assert got.activations == written[False] + written[True] == 11_114_984


def test_fvcore_totals_are_those_of_mmengine_but_for_padding_in_words(caplog, capsys):
    from mmengine.analysis import get_model_complexity_info

    def network(padding):
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=padding, groups=1), nn.BatchNorm2d(8), nn.ReLU()).train()

    theirs = get_model_complexity_info(network(1).eval(), (3, 6, 6), show_table=False, show_arch=False)
    capsys.readouterr(), caplog.clear()
    ours = network(1)
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    got = fvcore_totals(ours, (3, 6, 6))
    assert (got.params, got.flops, got.activations) == (theirs['params'], theirs['flops'], theirs['activations'])
    assert got.flops_by_operator == dict(conv=8 * 27 * 36, batch_norm=2 * 8 * 36)
    assert fvcore_totals(network('same'), (3, 6, 6)) == got
    assert ours.training and all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    assert (caplog.records, *capsys.readouterr()) == ([], '', '')


def test_errors():
    with pytest.raises(ValueError, match="unknown counting convention 'coco'; expected one of cifar, imagenet"):
        count(nn.Conv2d(3, 4, 1), (3, 8, 8), 'coco')
    with pytest.raises(ValueError, match=r'Conv2d cannot be run on input shape \(1, 8, 8\): .*channels'):
        count(nn.Conv2d(3, 4, 1), (1, 8, 8))
    with pytest.raises(ValueError, match='input_shape must be positive integers'):
        count(nn.Conv2d(3, 4, 1), (3, 0, 8))


def test_convention_for():
    assert (convention_for((3, 32, 32)), convention_for((3, 224, 224))) == ('cifar', 'imagenet')
