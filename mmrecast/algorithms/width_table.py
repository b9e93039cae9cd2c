"""A table of measured latencies: every layer alone, at every combination of the widths around it.

::

    {"format": "mmrecast.width_latency/1", "network": "resnet18", "input_shape": [3, 224, 224],
     "divisors": {"layer1.0.conv1": [1, 2, 4], "layer2.0.conv1": [1, 2, 4], …},      per width group
     "layers": {"layer2.0.conv1": {"kind": "conv", "in_channels": 64, …,
                                   "width_groups": ["conv1", "layer2.0.conv1"],     one axis each
                                   "milliseconds": [[0.71, 0.38, 0.21], …]}, …}}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmrecast.surgery.channel_graph import ChannelGraph, Layer, size
from mmrecast.utils.checkpoint import read_json
from mmrecast.utils.names import nearest

FORMAT = 'mmrecast.width_latency/1'


class WidthTable:
    """What ``tools/analysis_tools/measure_width_latency.py`` wrote, checked against the network it is used for.

    Args:
        content (Mapping): What the file holds.
        graph (ChannelGraph): Of the network.
        name (str): How messages call it. Defaults to ``'the latency table'``.

    Raises:
        ValueError: It is no such table, or is of another network or another input shape.
    """

    def __init__(self, content: Mapping, graph: ChannelGraph, name: str = 'the latency table') -> None:
        self.name = name
        if not isinstance(content, Mapping) or content.get('format') != FORMAT:
            found = content.get('format') if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f'{name} is no table of measured widths: its format is {found!r}, not {FORMAT!r}')
        absent = [key for key in ('input_shape', 'divisors', 'layers') if key not in content]
        if absent:
            raise ValueError(f'{name} is incomplete: it lacks {", ".join(absent)}')
        shape = tuple(content['input_shape'])
        if shape != tuple(graph.input_shape):
            raise ValueError(
                f'{name} was measured on images of {shape}, but the network is given {tuple(graph.input_shape)}'
            )
        self.divisors: Mapping[str, Sequence[int]] = content['divisors']
        self.layers: Mapping[str, Mapping] = content['layers']
        for path, layer in graph.layers.items():
            if layer.kind != 'norm':
                self._check(path, layer, content.get('network'))

    @classmethod
    def read(cls, source: str | Path | Mapping, graph: ChannelGraph) -> 'WidthTable':
        """Return the table that a JSON file or its content holds.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no JSON, or as above.
        """
        if isinstance(source, Mapping):
            return cls(source, graph)
        path = Path(source)
        if not path.is_file():
            beside = [file.name for file in path.parent.glob('*.json')] if path.parent.is_dir() else []
            raise FileNotFoundError(f'there is no latency table {path}{nearest(path.name, beside)}')
        return cls(read_json(path), graph, str(path))

    def milliseconds(self, path: str, chosen: Mapping[str, int]) -> float:
        """Return how long a layer takes.

        Args:
            path (str): The layer.
            chosen (dict[str, int]): The divisor of every width group around it that narrows.

        Raises:
            ValueError: It was not measured so; the message names the layer.
        """
        entry = self.layers[path]
        axes = entry.get('width_groups', ())
        for group, divisor in chosen.items():
            if divisor != 1 and group not in axes:
                of = ', '.join(axes) or 'none'
                raise ValueError(f'{self.name} has {path!r} at the widths of {of}, but {group!r} narrows, too')
        value = entry.get('milliseconds')
        for group in axes:
            divisor, measured = chosen.get(group, 1), list(self.divisors.get(group, ()))
            if divisor not in measured:
                raise ValueError(f'{self.name} has not measured {path!r} with {group!r} / {divisor}, only / {measured}')
            at = measured.index(divisor)
            value = value[at] if isinstance(value, Sequence) and at < len(value) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float('inf'):
            at = ', '.join(f'{group} / {chosen.get(group, 1)}' for group in axes) or 'its full width'
            raise ValueError(f'{self.name} has no milliseconds of {path!r} at {at}')
        return float(value)

    def _check(self, path: str, layer: Layer, network: object) -> None:
        other = f'{self.name} is of another network ({network})'
        if path not in self.layers:
            raise ValueError(f'{other}: it lacks the layer {path!r}{nearest(path, self.layers)}')
        for key, ours in form_of(layer).items():
            theirs = self.layers[path].get(key)
            if theirs != ours:
                raise ValueError(f'{other}: {key} of {path!r} is {theirs!r} there, {ours!r} here')


def form_of(layer: Layer) -> dict:
    """Return what tells a layer from others, as the table stores it."""
    return dict(
        kind=layer.kind, in_channels=size(layer.inputs), out_channels=size(layer.outputs), groups=layer.groups,
        kernel=layer.kernel, positions=layer.positions,
    )  # fmt: skip
