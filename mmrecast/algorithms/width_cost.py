"""The expected cost of a network whose widths are still probabilities (Differentiable Adjoined Networks).

A convolution costs positions · kernel · E[c_in · c_out]. Where its input and its output belong to different width
groups these choose independently, and E[c_in · c_out] = E[c_in] · E[c_out]. Where they belong to the same one (a stage
tied by residual sums), one choice narrows both: Σ_i p_i · c_in,i · c_out,i. Depthwise and grouped convolutions lose
groups with their channels, so that they cost in proportion to the width. All of it is one polynomial in the
probabilities, whose terms are collected once::

    cost = Σ_t coefficient[t] · x[index[t, 0]] · x[index[t, 1]] …       x = [1, p(group 1), p(group 2), …]

With a choice that is certain (one-hot) it equals ``analysis.complexity.count`` of the narrowed network. (The paper has
E[c_in] · E[c_out] for every convolution; its authors' code counts the cost of each block twice.) Layers that
``surgery.channels`` cannot follow never narrow and are not in the sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from mmrecast.algorithms.width_table import WidthTable
from mmrecast.surgery.channel_graph import ChannelGraph, Layer, Segment, size
from mmrecast.surgery.width_rules import check_divisor
from mmrecast.utils.names import nearest

KINDS = ('mults', 'params', 'latency')


class WidthCost(nn.Module):
    """Multiplications, weights or milliseconds of a network, expected over independent choices of its width groups.

    Args:
        graph (ChannelGraph): Of the network at its full width.
        divisors (dict[str, Sequence[int]]): The candidates of each width group that chooses, by its name.
        kind (str): 'mults' (multiplications per image), 'params' (weights without biases and BatchNorm) or 'latency'
            (milliseconds of a batch, from a table). Defaults to 'mults'.
        table (str | dict, optional): For 'latency': the JSON file of ``measure_width_latency.py``, or what it holds.
        classifier (bool, optional): Whether fully connected layers count. Defaults to None: above 64 pixels, as in
            the tables of Network Recasting; always for 'latency'.

    Raises:
        ValueError: Unknown kind, a group that is not there, may not narrow or has no candidates, a divisor that does
            not divide its channels, or a table that is missing, superfluous or does not fit.
        FileNotFoundError: There is no such table.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        divisors: Mapping[str, Sequence[int]],
        kind: str = 'mults',
        table: str | Path | Mapping | None = None,
        classifier: bool | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'a cost is one of {", ".join(KINDS)}, got {kind!r}{nearest(str(kind), KINDS)}')
        if kind == 'latency' and table is None:
            raise ValueError("cost 'latency' needs table=…, the file of tools/analysis_tools/measure_width_latency.py")
        if kind != 'latency' and table is not None:
            raise ValueError(f"only cost 'latency' takes a table, not {kind!r}")
        self.kind = kind
        if classifier is None:
            classifier = kind == 'latency' or max(graph.input_shape[1:]) > 64
        self.divisors = {name: _checked(graph, name, candidates) for name, candidates in divisors.items()}
        self._columns = self._place()
        measured = None if table is None else WidthTable.read(table, graph)
        counted = ('conv', 'linear') if classifier else ('conv',)
        terms: dict[tuple[int, ...], float] = {}
        for path, layer in graph.layers.items():
            if layer.kind not in counted:
                continue
            times = layer.positions if kind == 'mults' else 1
            found = self._weights(layer) if measured is None else self._milliseconds(path, layer, measured)
            for columns, coefficient in found:
                key = tuple(sorted(column for column in columns if column))  # column 0 is 1
                terms[key] = terms.get(key, 0) + coefficient * times
        order = max(map(len, terms), default=1) or 1
        self._exact = torch.tensor(list(terms.values()), dtype=torch.float64)
        full = [1.0] + [float(divisor == 1) for columns in self._columns.values() for divisor in columns]
        index = [(*key, *[0] * (order - len(key))) for key in terms]
        self.register_buffer('index', torch.tensor(index, dtype=torch.int64).view(-1, order), False)
        self.register_buffer('coefficients', self._exact.clone(), False)
        self.register_buffer('full', torch.tensor(full), False)
        self.register_buffer('nothing', torch.zeros(1), False)

    def forward(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Return the expected cost, a scalar, computed in float64 and given in the probabilities' type (not half).

        Args:
            probabilities (dict[str, Tensor]): By group, (len(divisors[group]),), summing to 1; a group without an
                entry keeps its full width.

        Raises:
            ValueError: A group does not choose here, or its probabilities are not as many as its divisors.
        """
        pieces, dtype = [self.full[:1]], torch.float32
        for name, given in probabilities.items():
            candidates = self._candidates(name)
            if given.shape != (len(candidates),):
                raise ValueError(f'{name!r} chooses among {candidates}, but probabilities are {tuple(given.shape)}')
        for name, columns in self._columns.items():
            given = probabilities.get(name)
            if given is None:
                pieces.append(self.full[[*columns.values()]])
                continue
            dtype = torch.promote_types(dtype, given.dtype)
            pieces.append(given)
            if len(columns) > len(given):  # the full width is no candidate
                pieces.append(self.nothing)
        return self._evaluate(torch.cat(pieces).double()).to(dtype)

    def exact(self, choice: Mapping[str, int]) -> float:
        """Return the cost of one divisor per group; a group without an entry keeps its full width.

        Raises:
            ValueError: A group does not choose here, or not among divisors with this one.
        """
        x = self.full.to(torch.float64, copy=True)
        for name, divisor in choice.items():
            candidates = self._candidates(name)
            if divisor not in self._columns[name]:
                raise ValueError(f'{name!r} chooses among {candidates}, not {divisor!r}')
            x[[*self._columns[name].values()]] = 0
            x[self._columns[name][divisor]] = 1
        return self._evaluate(x).item()

    def _evaluate(self, x: Tensor) -> Tensor:
        first, *others = x[self.index].unbind(1)
        for other in others:
            first = first * other
        return self.coefficients @ first

    def _apply(self, fn, recurse: bool = True) -> 'WidthCost':
        """Move to a device, but stay in float64 when the model changes its type."""
        super()._apply(fn, recurse)
        self.coefficients = self._exact.to(self.coefficients.device)
        return self

    def _place(self) -> dict[str, dict[int, int]]:
        """Return, by group and divisor, the place in x; the full width has one even where it is no candidate."""
        columns: dict[str, dict[int, int]] = {}
        first = 1
        for name, candidates in self.divisors.items():
            own = dict.fromkeys((*candidates, 1))
            columns[name] = {divisor: first + place for place, divisor in enumerate(own)}
            first += len(own)
        return columns

    def _candidates(self, name: str) -> tuple[int, ...]:
        if name not in self.divisors:
            raise ValueError(f'no width group {name!r} chooses its width here{nearest(name, self.divisors)}')
        return self.divisors[name]

    def _weights(self, layer: Layer) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield the terms of a layer's number of weights: places in x and a coefficient."""
        if layer.groups > 1:
            per_output = layer.kernel * (size(layer.inputs) // layer.groups)  # the same at any width
            for given in layer.outputs:
                yield from (((column,), kept * per_output) for column, kept in self._kept(given))
            return
        for read, given in product(layer.inputs, layer.outputs):
            one, other = self._kept(read), self._kept(given)
            pairs = zip(one, other, strict=True) if read.group == given.group else product(one, other)
            for (i, c_in), (j, c_out) in pairs:
                yield (i,) if i == j else (i, j), layer.kernel * c_in * c_out

    def _kept(self, segment: Segment) -> list[tuple[int, int]]:
        """Return the places in x of a segment's widths, and these; place 0 for one that stays as it is."""
        numbers = segment.width * segment.repeat
        columns = self._columns.get(segment.group, {1: 0})
        return [(column, numbers // divisor) for divisor, column in columns.items()]

    def _milliseconds(self, path: str, layer: Layer, table: WidthTable) -> Iterator[tuple[tuple[int, ...], float]]:
        names = dict.fromkeys(segment.group for segment in (*layer.inputs, *layer.outputs))
        choosing = [name for name in names if name in self._columns]
        for divisors in product(*(self._columns[name] for name in choosing)):
            chosen = dict(zip(choosing, divisors, strict=True))
            columns = tuple(self._columns[name][divisor] for name, divisor in chosen.items())
            yield columns, table.milliseconds(path, chosen)


def build_cost(cfg: Mapping, graph: ChannelGraph, divisors: Mapping[str, Sequence[int]]) -> WidthCost:
    """Return the cost of a config: ``dict(type='mults')``, ``dict(type='latency', table='table.json')``.

    Args:
        cfg (Mapping): ``type`` is the kind of a :class:`WidthCost`; besides it ``table`` and ``classifier``.
        graph (ChannelGraph): Of the network at its full width.
        divisors (dict[str, Sequence[int]]): The candidates of each width group that chooses.

    Raises:
        ValueError: It is no such config, or as :class:`WidthCost`.
        FileNotFoundError: There is no such table.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ValueError(f"cost is given as dict(type='mults'), 'params' or 'latency', got {cfg!r}")
    options, known = {key: value for key, value in cfg.items() if key != 'type'}, ('table', 'classifier')
    for key in options:
        if key not in known:
            raise ValueError(f'cost takes type, table and classifier, not {key!r}{nearest(key, known)}')
    return WidthCost(graph, divisors, cfg['type'], **options)


def _checked(graph: ChannelGraph, name: str, candidates: Sequence[int]) -> tuple[int, ...]:
    if name not in graph.groups:
        raise ValueError(f'the network has no width group {name!r}{nearest(name, graph.groups)}')
    group, candidates = graph.groups[name], tuple(candidates)
    if not candidates or len(set(candidates)) < len(candidates):
        raise ValueError(f'divisors of {name!r} must be different numbers, at least one, got {candidates}')
    if group.fixed and set(candidates) != {1}:
        raise ValueError(f'{name!r} cannot narrow: {group.fixed}')
    for divisor in candidates:
        check_divisor(group, divisor, 'divisor')
    return candidates
