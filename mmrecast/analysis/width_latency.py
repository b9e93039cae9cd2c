"""Measure every convolution and fully connected layer of a network alone, at every combination of its widths.

::

    layer2.0.conv1      its output / 1   / 2   / 4        one axis per width group that the layer reads or gives;
    its input / 1          0.71   0.38   0.21   ms        a layer that reads and gives the same group has one
    its input / 2          0.39   …

The sum over the layers is a prediction of the network's latency that leaves something out (`LEFT_OUT`); the networks of
one divisor throughout are measured whole in the same rounds, so that one sees how good it is.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from math import prod
from statistics import median

import torch
from torch import nn

from mmrecast.algorithms.width_table import FORMAT, form_of
from mmrecast.analysis.activations import fill_statistics
from mmrecast.analysis.latency import bench, check_counts, rounds
from mmrecast.analysis.latency_settings import DTYPES, LatencySettings
from mmrecast.analysis.module_pass import ModulePass, view_of
from mmrecast.surgery.channel_graph import ChannelGraph, Layer
from mmrecast.surgery.width_rules import check_divisor
from mmrecast.surgery.widths import LayerWidths, Widths, kept_ranges, narrow, widths_of
from mmrecast.utils.modules import get_module, hooked, untouched
from mmrecast.utils.names import nearest

LEFT_OUT = 'BatchNorm, activations, pooling, sums and concatenations, and the memory traffic between layers'
MOST = 256  # combinations of the widths around one layer

Shapes = tuple[tuple[int, ...], ...]


def measure_widths(
    network: nn.Module,
    graph: ChannelGraph,
    divisors: Mapping[str, Sequence[int]],
    name: str,
    batch_size: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    settings: LatencySettings | None = None,
) -> dict:
    """Return a table of latencies for ``WidthCost(kind='latency')``, see ``algorithms.width_table``.

    Everything takes turns: a round runs every layer at all its widths once, and the networks of one divisor. Layers of
    equal form and input are measured once. The network is left as it was.

    Args:
        network (nn.Module): Images (N, C, H, W) → logits.
        graph (ChannelGraph): Of the network.
        divisors (dict[str, Sequence[int]]): Of each width group that narrows; the full width is measured in any case.
        name (str): What the table calls the network.
        batch_size (int): Images per forward pass. Defaults to 1.
        repeats (int): Measured rounds, of which the medians are taken. Defaults to 30.
        warmup (int): Rounds that are not measured. Defaults to 5.
        settings (LatencySettings, optional): How layers are run. Defaults to None: float32 on the CPU.

    Raises:
        ValueError: A count is too small, a group is not there, may not narrow or cannot be divided so, a layer has too
            many combinations of widths, or layers are to be compiled or BN folded: a layer alone has neither.
    """
    settings = settings or LatencySettings()
    check_counts(batch_size=batch_size, repeats=repeats, warmup=warmup)
    if settings.compile or settings.fuse_bn:
        raise ValueError('layers are measured alone: without compile and fuse_bn')
    divisors = {group: _checked(graph, group, candidates) for group, candidates in divisors.items()}
    layers = {path: layer for path, layer in graph.layers.items() if layer.kind != 'norm'}
    axes = {path: _axes(path, layer, divisors) for path, layer in layers.items()}
    seen = _inputs_of(network, layers, graph)
    forms: dict[Hashable, _Form] = {}
    used: dict[str, dict[tuple[int, ...], Hashable]] = {path: {} for path in layers}
    for path, layer in layers.items():
        for combination in product(*(divisors[group] for group in axes[path])):
            form = _Form.of(network, layer, dict(zip(axes[path], combination, strict=True)), seen[path])
            used[path][combination] = form.key
            forms.setdefault(form.key, form)
    uniform = _uniform(divisors)
    networks = {d: fill_statistics(_narrowed(network, graph, own), graph.input_shape) for d, own in uniform.items()}
    with _passes(networks, forms, graph, batch_size, settings) as (passes, threads):
        medians = {key: median(ms for (ms,) in own) for key, own in rounds(passes, warmup, repeats).items()}
    times = {path: {widths: medians[key] for widths, key in own.items()} for path, own in used.items()}
    whole = []
    for d, chosen in uniform.items():
        total = sum(own[tuple(chosen.get(group, 1) for group in axes[path])] for path, own in times.items())
        whole.append(dict(divisor=d, layers_ms=total, network_ms=medians[d], ratio=total / medians[d]))
    entries = {
        path: form_of(layer)
        | dict(width_groups=axes[path], milliseconds=_nested(times[path], [divisors[group] for group in axes[path]]))
        for path, layer in layers.items()
    }
    return dict(
        format=FORMAT, network=name, input_shape=list(graph.input_shape), batch_size=batch_size,
        settings=asdict(settings) | dict(threads=threads), repeats=repeats, warmup=warmup, measured=len(forms),
        left_out=LEFT_OUT, whole=whole, divisors=divisors, layers=entries,
    )  # fmt: skip


class _Form:
    """A layer at certain widths; equal forms have equal keys.

    Args:
        module (nn.Module): The layer at its full width.
        kept (LayerWidths): What is kept of it.
        inputs (Shapes): Of each call, the narrowed input's shape without the batch dimension.
    """

    def __init__(self, module: nn.Module, kept: LayerWidths, inputs: Shapes) -> None:
        self.module, self.kept, self.inputs = module, kept, inputs
        names = ('kernel_size', 'stride', 'padding', 'dilation', 'padding_mode')
        geometry = tuple(getattr(module, name, None) for name in names)
        per_group = module.in_channels // module.groups if getattr(module, 'groups', 1) > 1 else 0
        outputs = sum(stop - start for start, stop in kept.outputs)
        self.key = type(module), geometry, per_group, module.bias is None, outputs, inputs

    @classmethod
    def of(cls, network: nn.Module, layer: Layer, chosen: Mapping[str, int], inputs: Shapes) -> '_Form':
        """Return a layer of the network at the chosen widths."""
        kept = LayerWidths(kept_ranges(layer.inputs, chosen), kept_ranges(layer.outputs, chosen))
        channels = sum(stop - start for start, stop in kept.inputs)
        return cls(get_module(network, layer.path), kept, tuple((channels, *shape[1:]) for shape in inputs))

    def build(self) -> nn.Module:
        """Return the layer as ``surgery.widths.narrow`` makes it."""
        return narrow(nn.ModuleDict(dict(layer=self.module)), Widths(dict(layer=self.kept), ()))['layer']


@contextmanager
def _passes(
    networks: Mapping[int, nn.Module],
    forms: Mapping[Hashable, _Form],
    graph: ChannelGraph,
    batch_size: int,
    settings: LatencySettings,
) -> Iterator[tuple[dict[Hashable, Callable[[], list[float]]], int]]:
    """Place networks and layers; the layers share the memory of their input, whatever its shape."""
    named = {f'the network / {d}': network for d, network in networks.items()}
    with bench(named, graph.input_shape, batch_size, settings) as ready:
        longest = max((prod(shape) for form in forms.values() for shape in form.inputs), default=1)
        memory = torch.rand(batch_size * longest).to(settings.device, DTYPES[settings.dtype])
        passes: dict[Hashable, Callable[[], list[float]]] = {
            d: ModulePass(network, [ready.images], ready.wait)
            for d, network in zip(networks, ready.networks.values(), strict=True)
        }
        for key, form in forms.items():
            layer = settings.place(form.build().eval(), form.inputs[0])[0]
            inputs = [view_of(memory, (batch_size, *shape), settings.channels_last) for shape in form.inputs]
            passes[key] = ModulePass(layer, inputs, ready.wait)
        yield passes, ready.threads


def _checked(graph: ChannelGraph, group: str, candidates: Sequence[int]) -> list[int]:
    if group not in graph.groups:
        raise ValueError(f'the network has no width group {group!r}{nearest(group, graph.groups)}')
    if graph.groups[group].fixed:
        raise ValueError(f'{group!r} cannot narrow: {graph.groups[group].fixed}')
    for divisor in candidates:
        check_divisor(graph.groups[group], divisor, 'divisor')
    return sorted({1, *candidates})


def _axes(path: str, layer: Layer, divisors: Mapping[str, Sequence[int]]) -> list[str]:
    groups = dict.fromkeys(segment.group for segment in (*layer.inputs, *layer.outputs))
    axes = [group for group in groups if group in divisors]
    combinations = prod(len(divisors[group]) for group in axes)
    if combinations > MOST:
        raise ValueError(
            f'{path!r} has {combinations} combinations of the widths of {len(axes)} groups, at most {MOST} are '
            f'measured: exclude some ({", ".join(axes[:3])}, …)'
        )
    return axes


def _inputs_of(network: nn.Module, layers: Mapping[str, Layer], graph: ChannelGraph) -> dict[str, Shapes]:
    """Run the network once and return, by layer, the shape of each call's input without the batch dimension."""
    seen: dict[str, list[tuple[int, ...]]] = {path: [] for path in layers}
    handles = []
    for path, own in seen.items():

        def note(module: nn.Module, args: tuple, kwargs: dict, own: list = own) -> None:
            own.append(tuple((args[0] if args else kwargs['input']).shape[1:]))

        handles.append(get_module(network, path).register_forward_pre_hook(note, with_kwargs=True))
    with hooked(handles), untouched(network), torch.no_grad():
        like = next(network.parameters())
        network(torch.zeros(1, *graph.input_shape, device=like.device, dtype=like.dtype))
    return {path: tuple(own) for path, own in seen.items()}


def _uniform(divisors: Mapping[str, Sequence[int]]) -> dict[int, dict[str, int]]:
    """Return, by divisor, the choice in which every group that can takes it."""
    every = sorted({1, *(divisor for candidates in divisors.values() for divisor in candidates)})
    return {d: {group: d for group, candidates in divisors.items() if d in candidates} for d in every}


def _narrowed(network: nn.Module, graph: ChannelGraph, divisors: Mapping[str, int]) -> nn.Module:
    return narrow(copy.deepcopy(network), widths_of(graph, divisors))


def _nested(times: Mapping[tuple[int, ...], float], axes: Sequence[Sequence[int]]) -> float | list:
    if not axes:
        return times[()]
    rest = {d: {key[1:]: ms for key, ms in times.items() if key[0] == d} for d in axes[0]}
    return [_nested(rest[d], axes[1:]) for d in axes[0]]
