"""Narrow a network: which width groups, by which divisors, and the narrower layers themselves.

::

    trace_channels ─▶ ChannelGraph ─▶ divisors_for ─▶ widths_of ─▶ Widths ─▶ narrow ─▶ the narrow network
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmrecast.surgery.chain import Shape, match
from mmrecast.surgery.channel_graph import ChannelGraph, Layer, Segment, WidthGroup, size
from mmrecast.utils.modules import get_module, set_module
from mmrecast.utils.names import nearest

RULES = ('auto', 'basic', 'bottleneck')
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
            raise ValueError(f'widths are dict(input_shape=…, layers=…), got {str(data)[:80]}')
        layers = {}
        for path, kept in data['layers'].items():
            if not isinstance(path, str) or not isinstance(kept, Mapping) or set(kept) != {'inputs', 'outputs'}:
                raise ValueError(f'widths of layer {path!r} are dict(inputs=…, outputs=…), got {str(kept)[:80]}')
            layers[path] = LayerWidths(*(_ranges(path, kept[side]) for side in ('inputs', 'outputs')))
        shape = data['input_shape']
        if not _whole(shape) or len(shape) != 3:
            raise ValueError(f'input_shape of widths is three numbers (C, H, W), got {str(shape)[:80]}')
        return cls(layers, tuple(shape))


# ---- which groups, and how far ---------------------------------------------------------------------------------------


def adjoined_groups(graph: ChannelGraph, above: int = 64, rule: str = 'auto', exclude: Sequence[str] = ()) -> list[str]:
    """Return the names of the width groups that a rule narrows: stem and first stage stay as wide as they are.

    A group is adjoined if all its convolutions (depthwise ones aside) have more than ``above`` filters and, with
    'bottleneck', one of them at least reads more than ``above`` channels (arXiv 2006.05624 and its code, which look at
    each convolution alone; in its networks that is the same).

    Args:
        graph (ChannelGraph): Of the network.
        above (int): Number of channels up to which a layer keeps its width. Defaults to 64.
        rule (str): 'basic', 'bottleneck' or 'auto': 'bottleneck' where at least half of the convolutions are 1x1.
            Defaults to 'auto'.
        exclude (Sequence[str]): Patterns of modules whose layers keep their width, with all that is tied to them.

    Raises:
        ValueError: An argument is out of range, a pattern matches nothing, or nothing is left to adjoin.
    """
    if rule not in RULES:
        raise ValueError(f'rule must be one of {", ".join(RULES)}, got {rule!r}{nearest(str(rule), RULES)}')
    if isinstance(above, bool) or not isinstance(above, int) or above < 0:
        raise ValueError(f'above must be a whole number of channels, at least 0, got {above!r}')
    convs = {path: layer for path, layer in graph.layers.items() if layer.kind == 'conv' and not layer.depthwise}
    if rule == 'auto':
        rule = 'bottleneck' if 2 * sum(layer.kernel == 1 for layer in convs.values()) >= len(convs) else 'basic'
    left_out = _all_in(graph, exclude)
    chosen, fixed = [], []
    for group in graph.groups.values():
        own = [convs[path] for path in group.layers if path in convs]
        wide = own and all(size(conv.outputs) > above for conv in own)
        wide = wide and (rule == 'basic' or any(size(conv.inputs) > above for conv in own))
        if wide and not left_out & set(group.layers):
            (fixed if group.fixed else chosen).append(group)
    if not chosen:
        raise ValueError(f'no layer to adjoin: {_why_none(graph, convs, above, rule, fixed, left_out)}')
    return [group.name for group in chosen]


def _why_none(
    graph: ChannelGraph, convs: Mapping[str, Layer], above: int, rule: str, fixed: list[WidthGroup], left_out: set[str]
) -> str:
    if not convs:
        return 'the network has no convolution whose channels could be followed'
    if fixed:
        wide = '1 group is' if len(fixed) == 1 else f'{len(fixed)} groups are'
        return f'{wide} wide enough but cannot narrow; {fixed[0].name!r} is held: {fixed[0].fixed}'
    if left_out:
        return 'exclude leaves none'
    widest = max(convs.values(), key=lambda layer: size(layer.outputs))
    both = 'read and give' if rule == 'bottleneck' else 'give'
    return (
        f'a group narrows where its convolutions {both} more than {above} channels, but the widest here, '
        f'{widest.path!r}, has {size(widest.inputs)} → {size(widest.outputs)}: set above= lower'
    )


def divisors_for(
    graph: ChannelGraph,
    alpha: int | Mapping[str, int],
    above: int = 64,
    rule: str = 'auto',
    exclude: Sequence[str] = (),
) -> dict[str, int]:
    """Return by which divisor each adjoined group narrows.

    Args:
        graph (ChannelGraph): Of the network.
        alpha (int | dict[str, int]): The divisor of every group the rule adjoins; or divisors by pattern of modules
            (``{'layer3': 4, 'layer4.*': 8}``), which choose the groups in place of the rule.
        above, rule, exclude: See `adjoined_groups`.

    Returns:
        dict[str, int]: By name of the group.

    Raises:
        ValueError: A divisor is no whole number of at least 1, does not divide a width, leaves no channel, or groups
            that narrow together are given different ones.
    """
    if not isinstance(alpha, Mapping):
        divisors = dict.fromkeys(adjoined_groups(graph, above, rule, exclude), alpha)
    else:
        divisors = _by_pattern(graph, alpha, _all_in(graph, exclude))
    for name, divisor in divisors.items():
        check_divisor(graph.groups[name], divisor)
    return divisors


def _by_pattern(graph: ChannelGraph, alpha: Mapping[str, int], left_out: set[str]) -> dict[str, int]:
    if not alpha:
        raise ValueError("alpha names no layer: give one number for all, or alpha={'layer3.*': 4, …}")
    group_of = {path: group for group in graph.groups.values() for path in group.layers}
    asked: dict[str, tuple[str, int]] = {}  # group → the layer that asked first, its divisor
    for pattern, divisor in alpha.items():
        paths = _layers_in(graph, pattern)
        free = [path for path in paths if path in group_of and not group_of[path].fixed]
        if not free:
            held = next((group_of[path] for path in paths if path in group_of), None)
            why = f'{held.name!r} is held: {held.fixed}' if held else 'it holds no convolution or fully connected layer'
            raise ValueError(f'alpha of {pattern!r} cannot be: {why}')
        for path in free:
            group = group_of[path]
            out = next((other for other in group.layers if other in left_out), None)
            if out is not None:
                raise ValueError(
                    f'{path!r} cannot narrow (alpha of {pattern!r}): {out!r}, which is excluded, is tied to it'
                )
            first, earlier = asked.setdefault(group.name, (path, divisor))
            if earlier != divisor:
                raise ValueError(
                    f'{first!r} and {path!r} narrow together (a sum, a product or a grouped convolution ties them): '
                    f'alpha cannot be {earlier} for one and {divisor} for the other'
                )
    return {name: divisor for name, (_, divisor) in asked.items()}


def check_divisor(group: WidthGroup, divisor: object, what: str = 'alpha') -> None:
    """Check that a group can be narrowed by ``divisor``.

    Raises:
        ValueError: It cannot.
    """
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise ValueError(f'{what} must be a whole number of at least 1, got {divisor!r}')
    for number in group.multiples:
        if number % divisor == 0:
            continue
        things = 'channels' if number in group.widths else 'groups (of a grouped convolution)'
        fault = (
            f'leaves none of the {number} {things}' if divisor > number else f'does not divide the {number} {things}'
        )
        fitting = [d for d in range(2, min(group.multiples) + 1) if all(n % d == 0 for n in group.multiples)]
        known = f'possible here: {", ".join(map(str, fitting[:8]))}' if fitting else 'nothing but 1 does'
        more = f' and {len(group.layers) - 1} more tied to it' if len(group.layers) > 1 else ''
        raise ValueError(f'{what}={divisor} {fault} of {group.name!r}{more}; {known}, or exclude=[{group.name!r}]')


def _layers_in(graph: ChannelGraph, pattern: object) -> list[str]:
    """Return the layers at or below the modules that a pattern selects."""
    if not isinstance(pattern, str):
        raise ValueError(f'a pattern of modules is a text like "layer3.*", got {pattern!r}')
    modules = {'.'.join(path.split('.')[:n]) for path in graph.layers for n in range(1, path.count('.') + 2)}
    found = set(match(pattern, sorted(modules)))
    return [path for path in graph.layers if any(path == one or path.startswith(f'{one}.') for one in found)]


def _all_in(graph: ChannelGraph, patterns: str | Sequence[str]) -> set[str]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return {path for pattern in patterns for path in _layers_in(graph, pattern)}


# ---- narrowing -------------------------------------------------------------------------------------------------------


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
        raise ValueError(f'widths of layer {path!r}: ranges [[start, stop], …] expected, got {str(value)[:80]}')
    if any(one[1] > other[0] for one, other in zip(pairs, pairs[1:], strict=False)):
        raise ValueError(f'widths of layer {path!r}: ranges must go upwards, got {str(value)[:80]}')
    return tuple(tuple(pair) for pair in pairs)


def _whole(values: object, least: int = 1) -> bool:
    return isinstance(values, list | tuple) and all(type(v) is int and v >= least for v in values)
