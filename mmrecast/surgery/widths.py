"""Narrow a network's layers: which channels are left of each, as plain data, and the narrower layers themselves.

::

    trace_channels ─▶ ChannelGraph ─▶ divisors_for ─▶ widths_of ─▶ Widths ─▶ narrow ─▶ the narrow network
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmrecast.surgery.chain import Shape
from mmrecast.surgery.channel_graph import ChannelGraph, Segment
from mmrecast.utils.modules import get_module, set_module
from mmrecast.utils.shapes import check_shape

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LayerWidths:
    """Which channels of a layer are kept.

    Args:
        inputs (tuple[tuple[int, int]]): Ranges (start, stop) of what it reads.
        outputs (tuple[tuple[int, int]]): Ranges of what it gives.
    """

    inputs: Ranges
    outputs: Ranges


@dataclass(frozen=True)
class Widths:
    """What narrowing leaves of a network: plain data, with which it can be done again.

    Args:
        layers (dict[str, LayerWidths]): Every layer that changes, by path.
        input_shape (tuple[int]): (C, H, W) of the image.
    """

    layers: dict[str, LayerWidths]
    input_shape: Shape

    def to_dict(self) -> dict:
        """Return dict, list, str and int alone."""
        layers = {
            path: dict(inputs=[list(r) for r in kept.inputs], outputs=[list(r) for r in kept.outputs])
            for path, kept in self.layers.items()
        }
        return dict(input_shape=list(self.input_shape), layers=layers)

    @classmethod
    def from_dict(cls, data: object) -> 'Widths':
        """Return what `to_dict` was made of.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(data, Mapping) or set(data) != {'input_shape', 'layers'} or not isinstance(
            data['layers'], Mapping
        ):  # fmt: skip
            raise ValueError(f'widths are dict(input_shape=…, layers=…), got {repr(data)[:80]}')
        layers = {}
        for path, kept in data['layers'].items():
            if not isinstance(path, str) or not isinstance(kept, Mapping) or set(kept) != {'inputs', 'outputs'}:
                raise ValueError(f'widths of layer {path!r} are dict(inputs=…, outputs=…), got {repr(kept)[:80]}')
            layers[path] = LayerWidths(*(_ranges(path, kept[side]) for side in ('inputs', 'outputs')))
        try:
            return cls(layers, check_shape(data['input_shape']))
        except ValueError as error:
            raise ValueError(f'input_shape of widths is three numbers (C, H, W): {error}') from error


def widths_of(graph: ChannelGraph, divisors: Mapping[str, int]) -> Widths:
    """Return what is left of every layer: of each group the first 1/divisor of its channels.

    Args:
        graph (ChannelGraph): Of the network.
        divisors (dict[str, int]): By name of the group; others keep their width.
    """
    layers = {}
    for path, layer in graph.layers.items():
        kept = LayerWidths(kept_ranges(layer.inputs, divisors), kept_ranges(layer.outputs, divisors))
        if kept != LayerWidths(kept_ranges(layer.inputs, {}), kept_ranges(layer.outputs, {})):
            layers[path] = kept
    return Widths(layers, graph.input_shape)


def kept_ranges(segments: Iterable[Segment], divisors: Mapping[str, int]) -> Ranges:
    """Return the ranges that are left of channels side by side; neighbours are joined."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for segment in segments:
        stop = start + segment.width // divisors.get(segment.group, 1) * segment.repeat
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], stop)
        else:
            ranges.append((start, stop))
        start += segment.width * segment.repeat
    return tuple(ranges)


def take(tensor: Tensor, dim: int, ranges: Ranges) -> Tensor:
    """Return the part of ``tensor`` in ``ranges`` of a dimension: a view where that is one range."""
    if len(ranges) == 1:
        start, stop = ranges[0]
        return tensor if stop - start == tensor.shape[dim] else tensor.narrow(dim, start, stop - start)
    return torch.cat([tensor.narrow(dim, start, stop - start) for start, stop in ranges], dim)


def kept_part(layer: nn.Module, name: str, tensor: Tensor, kept: LayerWidths) -> Tensor:
    """Return what a narrowed layer has of one of its full parameters or buffers; it shares memory where it can.

    Args:
        layer (nn.Module): The full layer.
        name (str): The tensor's name in it.
        tensor (Tensor): The full tensor.
        kept (LayerWidths): What the narrowed layer keeps.
    """
    if not tensor.dim():  # BN's counter
        return tensor
    tensor = take(tensor, 0, kept.outputs)
    two_sided = name == 'weight' and tensor.dim() > 1 and getattr(layer, 'groups', 1) == 1
    return take(tensor, 1, kept.inputs) if two_sided else tensor


def narrow(network: nn.Module, widths: Widths) -> nn.Module:
    """Replace the layers that ``widths`` names by narrower ones with the kept part of their weights, in place.

    Raises:
        ValueError: The widths are not of this network.
    """
    for path, kept in widths.layers.items():
        try:
            layer = get_module(network, path)
        except KeyError as error:
            raise ValueError(f'the widths do not fit {type(network).__name__}: {error.args[0]}') from error
        set_module(network, path, _narrowed(layer, path, kept))
    return network


def _narrowed(layer: nn.Module, path: str, kept: LayerWidths) -> nn.Module:
    sides = _SIDES.get(next((c for c in _SIDES if isinstance(layer, c)), None))
    if sides is None:
        raise ValueError(f'the widths do not fit: {path!r} is a {type(layer).__name__}, which cannot be narrowed')
    inputs, outputs = (sum(stop - start for start, stop in ranges) for ranges in (kept.inputs, kept.outputs))
    for name, ranges in zip(sides, (kept.inputs, kept.outputs), strict=True):
        if ranges[-1][1] > getattr(layer, name):
            raise ValueError(f'the widths do not fit: {path!r} has {name}={getattr(layer, name)}, kept are {ranges}')
    groups = getattr(layer, 'groups', 1)
    if groups > 1 and (groups * inputs % layer.in_channels or outputs % (groups * inputs // layer.in_channels)):
        raise ValueError(f'the widths do not fit: {path!r} has {groups} groups, kept are {inputs} → {outputs} channels')
    new = copy.deepcopy(layer)
    for holder in (new._parameters, new._buffers):
        for name, tensor in holder.items():
            if tensor is not None:
                part = kept_part(layer, name, tensor.detach(), kept).clone()
                holder[name] = nn.Parameter(part, tensor.requires_grad) if holder is new._parameters else part
    if groups > 1:
        new.groups = groups * inputs // layer.in_channels
    for name, number in zip(sides, (inputs, outputs), strict=True):
        setattr(new, name, number)
    return new


_SIDES = {
    nn.Conv2d: ('in_channels', 'out_channels'),
    nn.Linear: ('in_features', 'out_features'),
    _NormBase: ('num_features', 'num_features'),
}


def _ranges(path: str, value: object) -> Ranges:
    pairs = value if isinstance(value, list | tuple) else ()
    if not pairs or not all(_whole(pair, least=0) and len(pair) == 2 and pair[0] < pair[1] for pair in pairs):
        raise ValueError(f'widths of layer {path!r}: ranges [[start, stop], …] expected, got {repr(value)[:80]}')
    if any(one[1] > other[0] for one, other in zip(pairs, pairs[1:], strict=False)):
        raise ValueError(f'widths of layer {path!r}: ranges must go upwards, got {repr(value)[:80]}')
    return tuple(tuple(pair) for pair in pairs)


def _whole(values: object, least: int = 1) -> bool:
    return isinstance(values, list | tuple) and all(type(v) is int and v >= least for v in values)
