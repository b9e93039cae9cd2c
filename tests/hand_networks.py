"""Networks written by hand whose width groups are known and free to narrow, for tests of what narrows together."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrecast.surgery.widths import Widths

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """Modules by name and a function (modules, images) → logits."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


def fc(inputs: int, outputs: int = 10) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def pooled(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def _gated(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x).relu()
    return m.fc(pooled(m.b(x * m.up(m.down(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()).relu()))


def _gated_linear(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x).relu()
    gate = m.up(m.down(x.mean((2, 3))).relu()).sigmoid()
    return m.fc(pooled(x * gate[:, :, None, None] if m.slices else x * gate.view(*gate.shape, 1, 1)))


def _dense(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x)
    x = torch.cat([x, m.b(m.n1(x).relu())], 1)
    x = torch.cat([x, m.c(m.n2(x).relu())], dim=-3)
    return m.fc(pooled(m.n3(x).relu()))


def _residual(m: nn.Module, x: Tensor) -> Tensor:
    x = m.n1(m.a(x)).relu()
    y = m.n3(m.c(m.n2(m.b(x)).relu()))
    y += x
    return m.fc(m.relu(y).mean([2, 3]))


def _inplace(m: nn.Module, x: Tensor) -> Tensor:
    x = F.relu(m.n1(m.a(x)), inplace=True)
    y = m.b(x)
    y.add_(x).mul_(0.5)
    return m.fc(torch.flatten(F.max_pool2d(F.dropout(y, 0.5, m.training, True).relu_(), 2), 1))


def _spatial(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x).relu()
    return m.fc(pooled(m.b(x * m.attend(x).sigmoid()).relu()))


def _twice(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x).relu()
    return m.fc(pooled(m.n(m.b(m.n(m.b(x)).relu())).relu()))


TWO_CONVS = dict(a=conv(3, 8), b=conv(8, 12), fc=fc(12))


def between(middle: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return a forward pass of two convolutions with something between them."""
    return lambda m, x: m.fc(pooled(m.b(middle(m, m.a(x).relu())).relu()))


# name: (modules, forward pass, groups that may narrow with their layers); 'fc' is always held: it gives the logits
FREE = {
    'plain': (
        dict(a=conv(3, 8), n1=bn(8), b=conv(8, 12), n2=bn(12), fc=fc(12)),
        lambda m, x: m.fc(pooled(m.n2(m.b(m.n1(m.a(x)).relu())).relu())),
        dict(a='a', b='b'),
    ),
    'residual sum': (
        dict(a=conv(3, 8), n1=bn(8), b=conv(8, 12), n2=bn(12), c=conv(12, 8), n3=bn(8), relu=nn.ReLU(True), fc=fc(8)),
        _residual,
        dict(a='a c', b='b'),
    ),
    'projection shortcut': (
        dict(a=conv(3, 8), b=conv(8, 12), c=conv(12, 12), short=conv(8, 12, 1, bias=False), fc=fc(12)),
        lambda m, x: m.fc(pooled((m.c(m.b(y := m.a(x).relu()).relu()) + m.short(y)).relu())),
        dict(a='a', b='b', c='c short'),
    ),
    'sum with keywords': (
        dict(a=conv(3, 8), b=conv(8, 8), fc=fc(8)),
        lambda m, x: m.fc(pooled(torch.add(input=(y := m.a(x).relu()), other=m.b(y)))),
        dict(a='a b'),
    ),
    'difference and maximum': (
        dict(a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), fc=fc(8)),
        lambda m, x: m.fc(pooled(torch.maximum(2 * (y := m.a(x)), m.c(y)).sub(m.b(y)))),
        dict(a='a c b'),
    ),
    'concatenation': (
        dict(a=conv(3, 4), n1=bn(4), b=conv(4, 6), n2=bn(10), c=conv(10, 2), n3=bn(12), fc=fc(12)),
        _dense,
        dict(a='a', b='b', c='c'),
    ),
    'sum of concatenations': (
        dict(a=conv(3, 4), b=conv(3, 6), c=conv(3, 4), d=conv(3, 6), fc=fc(10)),
        lambda m, x: m.fc(pooled(torch.cat([m.a(x), m.b(x)], 1) + torch.cat((m.c(x), m.d(x)), 1))),
        dict(a='a c', b='b d'),
    ),
    'depthwise': (
        dict(a=conv(3, 8), b=conv(8, 8, groups=8), c=conv(8, 12, 1), fc=fc(12)),
        lambda m, x: m.fc(pooled(m.c(m.b(m.a(x).relu()).relu()).relu())),
        dict(a='a b', c='c'),
    ),
    'depthwise, multiplier 2': (
        dict(a=conv(3, 4), b=conv(4, 8, groups=4), n=bn(8), c=conv(8, 12, 1), fc=fc(12)),
        lambda m, x: m.fc(pooled(m.c(m.n(m.b(m.a(x).relu())).relu()).relu())),
        dict(a='a b', c='c'),
    ),
    'depthwise on a concatenation': (
        dict(a=conv(3, 4), b=conv(3, 6), c=conv(10, 20, groups=10), fc=fc(20)),
        lambda m, x: m.fc(pooled(m.c(torch.cat([m.a(x), m.b(x)], 1)).relu())),
        dict(a='a c', b='b c'),
    ),
    'grouped': (
        dict(a=conv(3, 8), b=conv(8, 16, groups=4), c=conv(16, 6, 1), fc=fc(6)),
        lambda m, x: m.fc(pooled(m.c(m.b(m.a(x).relu()).relu()).relu())),
        dict(a='a b', c='c'),
    ),
    'gate of 1x1 convolutions': (
        dict(a=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), b=conv(8, 12), fc=fc(12)),
        _gated,
        dict(a='a up', down='down', b='b'),
    ),
    'gate of linear layers': (
        dict(a=conv(3, 8), down=fc(8, 4), up=fc(4, 8), fc=fc(8), slices=False),
        _gated_linear,
        dict(a='a up', down='down'),
    ),
    'gate of linear layers, sliced': (
        dict(a=conv(3, 8), down=fc(8, 4), up=fc(4, 8), fc=fc(8), slices=True),
        _gated_linear,
        dict(a='a up', down='down'),
    ),
    'flatten before linear': (
        dict(a=conv(3, 8), n=bn(8), hidden=fc(8 * 16, 12), fc=fc(12)),
        lambda m, x: m.fc(m.hidden(F.max_pool2d(m.n(m.a(x)).relu(), 2).flatten(1)).relu()),
        dict(a='a', hidden='hidden'),
    ),
    'view before linear': (
        dict(a=conv(3, 8), fc=fc(8 * 64)),
        lambda m, x: m.fc(m.a(x).relu().view(len(x), -1)),
        dict(a='a'),
    ),
    'layer called twice': (dict(a=conv(3, 8), b=conv(8, 8), n=bn(8), fc=fc(8)), _twice, dict(a='a b')),
    'in-place': (dict(a=conv(3, 8), n1=bn(8), b=conv(8, 8), fc=fc(8 * 16)), _inplace, dict(a='a b')),
    'dropout': (
        TWO_CONVS | dict(drop=nn.Dropout(0.5), drop2d=nn.Dropout2d(0.5)),
        between(lambda m, x: m.drop2d(m.drop(x))),
        dict(a='a', b='b'),
    ),
    'spatial attention': (
        dict(a=conv(3, 8), attend=conv(8, 1), b=conv(8, 12), fc=fc(12)),
        _spatial,
        dict(a='a', attend='attend', b='b'),
    ),
    'mean over places': (
        TWO_CONVS,
        lambda m, x: m.fc(m.b(m.a(x).relu()).relu().mean(-1).mean(dim=2)),
        dict(a='a', b='b'),
    ),
    'slices of places': (TWO_CONVS, between(lambda m, x: x[:, :, ::2, ::2]), dict(a='a', b='b')),
    'padding of places': (TWO_CONVS, between(lambda m, x: F.pad(x, (1, 1, 1, 1))), dict(a='a', b='b')),
    'interpolation': (
        TWO_CONVS,
        between(lambda m, x: F.interpolate(x, scale_factor=2.0)),
        dict(a='a', b='b'),
    ),
    'concatenation with a constant': (
        dict(a=conv(3, 8), b=conv(10, 12), fc=fc(12)),
        between(lambda m, x: torch.cat([x, torch.ones(len(x), 2, *x.shape[2:])], 1)),
        dict(a='a', b='b'),
    ),
    'squares': (TWO_CONVS, between(lambda m, x: 0 - (x**2).clamp(0, 3).pow(1.5)), dict(a='a', b='b')),
    'a number of its own': (
        TWO_CONVS | dict(scale=nn.Parameter(torch.tensor([1.5]))),
        between(lambda m, x: x * m.scale + 0.1 * x / 2),
        dict(a='a', b='b'),
    ),
    'places with weights': (
        TWO_CONVS | dict(map=nn.Parameter(torch.rand(1, 1, 8, 8))),
        between(lambda m, x: m.map * x),
        dict(a='a', b='b'),
    ),
    'circular padding': (
        dict(a=conv(3, 8, padding_mode='circular'), b=conv(8, 12), fc=fc(12)),
        between(lambda m, x: x),
        dict(a='a', b='b'),
    ),
    'norms of instances': (
        TWO_CONVS | dict(n=nn.InstanceNorm2d(8, affine=True), m=nn.InstanceNorm2d(8)),
        between(lambda m, x: m.m(m.n(x)).relu()),
        dict(a='a', b='b'),
    ),
}  # fmt: skip


def build(table: dict, name: str) -> Net:
    """Return a network of a table, with statistics and scales that are not those of new layers."""
    modules, run = table[name][:2]
    torch.manual_seed(0)
    network = Net(run, **copy.deepcopy(modules))
    for module in network.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(0, 0.1)
    return network


@torch.no_grad()
def zeroed(network: nn.Module, widths: Widths) -> nn.Module:
    """Return a copy whose dropped channels are all zeros: what narrowing must compute, by another way.

    Filters and norms of dropped channels become zeros; every reader keeps all its weights. It is the narrow network
    where operators between layers make zeros of zeros.
    """
    network = copy.deepcopy(network)
    for path, kept in widths.layers.items():
        layer = network.get_submodule(path)
        for tensor in layer.parameters(recurse=False):
            dropped = torch.ones(len(tensor), dtype=torch.bool)
            for start, stop in kept.outputs:
                dropped[start:stop] = False
            tensor[dropped] = 0
    return network
