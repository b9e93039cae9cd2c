"""Channel graphs made by hand, small enough to work their costs out on paper."""

import torch
from torch import Tensor

from mmrecast.surgery.channel_graph import ChannelGraph, Layer, Segment, WidthGroup

IMAGE = (Segment('the image', 3),)
A, B = Segment('a', 8), Segment('b', 4)


def graph_of(*layers: Layer, shape: tuple = (3, 8, 8), fixed: dict | None = None) -> ChannelGraph:
    """Return a graph of these layers, whose groups are those of their outputs."""
    groups: dict[str, list] = {}
    for layer in layers:
        for segment in layer.outputs:
            groups.setdefault(segment.group, []).append((layer.path, segment.width))
    found = {
        name: WidthGroup(
            name, tuple(path for path, _ in own), *[tuple({width for _, width in own})] * 2, (fixed or {}).get(name, '')
        )
        for name, own in groups.items()
    }
    return ChannelGraph({layer.path: layer for layer in layers}, found, shape)


def conv(path: str, inputs: tuple, outputs: tuple, **sizes: int) -> Layer:
    """Return a convolution."""
    return Layer(path, 'conv', inputs, outputs, **sizes)


def plain(shape: tuple = (3, 8, 8)) -> ChannelGraph:
    """Return 3 → a: 8 (3x3, 16 places) → b: 4 (1x1, 16 places) → 10 classes."""
    return graph_of(
        conv('a', IMAGE, (A,), kernel=9, positions=16), Layer('bn', 'norm', (A,), (A,)),
        conv('b', (A,), (B,), kernel=1, positions=16), Layer('fc', 'linear', (B,), (Segment('fc', 10),)),
        shape=shape, fixed=dict(fc="it is the network's output"),
    )  # fmt: skip


def vector(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return probabilities."""
    return torch.tensor(values, dtype=dtype)
