"""Networks written by hand in which something keeps channels from narrowing; `hand_networks.build` builds them."""

import torch
from hand_networks import TWO_CONVS, between, conv, fc, pooled
from torch import Tensor, nn
from torch.nn import functional as F


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _written(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x).relu()
    room = torch.zeros(len(x), 12, *x.shape[2:])
    room[:, :8] = x
    return m.fc(pooled(m.b(room)))


def _functional(m: nn.Module, x: Tensor) -> Tensor:
    return F.conv2d(x, m.kernel, padding=1)


# name: (modules, forward pass, groups that are held besides 'fc', what is said of them)
HELD = {
    'shortcut of zeros': (
        dict(a=conv(3, 8), b=conv(8, 12), fc=fc(12)),
        lambda m, x: m.fc(pooled(m.b(y := m.a(x).relu()) + F.pad(y, (0, 0, 0, 0, 2, 2)))),
        'a b', "pad in Net '' does not keep the channels apart",
    ),
    'channel shuffle': (
        TWO_CONVS, between(lambda m, x: _shuffled(x)), 'a', "view in Net '' does not keep the channels apart",
    ),
    'shuffle by a module': (
        TWO_CONVS | dict(shuffle=nn.ChannelShuffle(2)), between(lambda m, x: m.shuffle(x)), 'a',
        "channel_shuffle in ChannelShuffle 'shuffle' does not keep the channels apart",
    ),
    'layer scale': (
        TWO_CONVS | dict(scale=nn.Parameter(torch.ones(8, 1, 1))), between(lambda m, x: m.scale * x), 'a',
        "mul in Net '' does not keep the channels apart",
    ),
    'a bound per channel': (
        TWO_CONVS | dict(low=nn.Parameter(torch.ones(8, 1, 1))), between(lambda m, x: x.clamp(min=m.low)), 'a',
        "clamp in Net '' does not keep the channels apart",
    ),
    'weights of no module': (
        TWO_CONVS | dict(kernel=nn.Parameter(torch.randn(8, 8, 3, 3))), between(_functional), 'a',
        "conv2d in Net '' does not keep the channels apart",
    ),
    'weights of another module': (
        dict(a=conv(3, 8), b=conv(8, 8), fc=fc(8)),
        lambda m, x: m.fc(pooled(F.conv2d(m.b(m.a(x)), m.b.weight, padding=1))), 'b', "conv2d in Net ''",
    ),
    'group norm': (
        TWO_CONVS | dict(n=nn.GroupNorm(2, 8)), between(lambda m, x: m.n(x)), 'a', "group_norm in GroupNorm 'n'",
    ),
    'layer norm of places and channels': (
        TWO_CONVS | dict(n=nn.LayerNorm([8, 8, 8])), between(lambda m, x: m.n(x)), 'a', "layer_norm in LayerNorm 'n'",
    ),
    'a slope per channel': (TWO_CONVS | dict(act=nn.PReLU(8)), between(lambda m, x: m.act(x)), 'a', 'prelu in PReLU'),
    'softmax over channels': (TWO_CONVS, between(lambda m, x: x.softmax(1)), 'a', "softmax in Net ''"),
    'transposed convolution': (
        TWO_CONVS | dict(up=nn.ConvTranspose2d(8, 8, 2, 2)), between(lambda m, x: m.up(x)), 'a',
        "conv_transpose2d in ConvTranspose2d 'up'",
    ),
    'convolution over channels': (
        TWO_CONVS | dict(eca=nn.Conv1d(1, 1, 3, padding=1)),
        between(lambda m, x: x * m.eca(x.mean((2, 3)).unsqueeze(1)).squeeze(1)[:, :, None, None].sigmoid()),
        'a', "unsqueeze in Net ''",
    ),
    'mean over channels': (TWO_CONVS, between(lambda m, x: x * x.mean(1, keepdim=True)), 'a', "mean in Net ''"),
    'some of the channels': (
        TWO_CONVS, between(lambda m, x: x + torch.cat([x[:, 4:], x[:, :4]], 1)), 'a', "__getitem__ in Net ''",
    ),
    'halves': (
        dict(a=conv(3, 16), b=conv(8, 12), fc=fc(12)), between(lambda m, x: torch.mul(*x.chunk(2, 1))), 'a',
        "chunk in Net ''",
    ),
    'written into another tensor': (dict(a=conv(3, 8), b=conv(12, 12), fc=fc(12)), _written, 'a', "__setitem__ in Net"),
    'copied into another tensor': (
        TWO_CONVS, between(lambda m, x: torch.empty(len(x), 8, 8, 8).copy_(x)), 'a', "copy_ in Net ''",
    ),
    'channels last': (
        dict(a=conv(3, 8), b=fc(8, 8), fc=fc(8)),
        lambda m, x: m.fc(m.b(m.a(x).permute(0, 2, 3, 1)).mean((1, 2))), 'a', "permute in Net ''",
    ),
    'scaled by its norm': (TWO_CONVS, between(lambda m, x: F.normalize(x, dim=1)), 'a', "normalize in Net ''"),
    'weights with a norm of their own': (
        dict(a=conv(3, 8), b=nn.utils.parametrizations.weight_norm(conv(8, 12)), fc=fc(12)),
        between(lambda m, x: x), 'a', "conv2d in ParametrizedConv2d 'b'",
    ),
    'sum of channels put together otherwise': (
        dict(a=conv(3, 4), b=conv(3, 6), c=conv(3, 10), fc=fc(10)),
        lambda m, x: m.fc(pooled(torch.cat([m.a(x), m.b(x)], 1) + m.c(x))), 'a b c',
        'it is added to (or multiplied by) channels that are put together otherwise',
    ),
    'sum with the image': (
        dict(a=conv(3, 3), fc=fc(3)), lambda m, x: m.fc(pooled(m.a(x) + x)), 'a', 'it is the image',
    ),
    'grouped on a concatenation': (
        dict(a=conv(3, 4), b=conv(3, 4), c=conv(8, 8, groups=2), fc=fc(8)),
        lambda m, x: m.fc(pooled(m.c(torch.cat([m.a(x), m.b(x)], 1)))), 'a b', "conv2d in Conv2d 'c'",
    ),
}  # fmt: skip
