"""Set the counts that the paper's tables print against our networks', counted by running them.

::

    docs/paper_tables.yml ── read_paper ──▶ Paper ───────┐
    networks, built by the caller ── measure ──▶ Measured ┴─ figures_of ──▶ agrees | explained | unresolved | differs
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

from torch import nn

from mmrecast.analysis.complexity import Complexity, LayerCount, convention_for, count
from mmrecast.analysis.numbers import MINUS
from mmrecast.analysis.paper import COUNTS, Correction, Network, Paper, Printed, Row, rounds
from mmrecast.utils.modules import set_module
from mmrecast.utils.names import nearest

HEAD = ['table', 'network', 'rows', 'figure', 'printed', 'ours', 'ours, counted as printed', 'verdict', 'note']
"""list[str]: Headings of what :func:`compared` returns."""


@dataclass(frozen=True)
class Measured:
    """A network's count, and that in which its corrections are made, by column."""

    honest: Complexity
    corrected: Mapping[str, Complexity] = field(default_factory=dict)

    def value(self, column: str) -> int:
        """Return our figure."""
        return COUNTS[column](self.honest)

    def as_printed(self, column: str) -> int:
        """Return our figure, counted as the paper counts."""
        return COUNTS[column](self.corrected.get(column, self.honest))


@dataclass(frozen=True)
class Figure:
    """A printed figure beside ours.

    Args:
        column (str): Which it is.
        printed (str): As it is printed.
        value (int): Ours.
        as_printed (int): Ours, counted as the paper counts.
        ratio (float, optional): The baseline's over ours, as the verdict compares them; None where none is printed.
        verdict (str): ``'agrees'``, ``'explained'``, ``'unresolved'`` or ``'differs'``.
        reasons (tuple[str]): Of what does not agree.
        deviation (float): Of ``as_printed`` from the printed figure, in percent.
    """

    column: str
    printed: str
    value: int
    as_printed: int
    ratio: float | None
    verdict: str
    reasons: tuple[str, ...]
    deviation: float


def measure(network: nn.Module, input_shape: Sequence[int], corrections: Sequence[Correction] = ()) -> Measured:
    """Count a network, and once more for every column that corrections are made in.

    Args:
        network (nn.Module): Not changed; may be on the meta device.
        input_shape (Sequence[int]): (C, H, W).
        corrections (Sequence[Correction]): See there. Defaults to none.

    Raises:
        ValueError: A correction is about a layer that the network does not have.
    """
    convention = convention_for(input_shape)
    honest = count(network, input_shape, convention)
    corrected = {}
    for column in dict.fromkeys(column for correction in corrections for column in correction.columns):
        made = [correction for correction in corrections if column in correction.columns]
        layers = {path: cfg for correction in made for path, cfg in correction.layers.items()}
        found = count(_with_layers(network, layers), input_shape, convention) if layers else honest
        corrected[column] = _recounted(found, made)
    return Measured(honest, corrected)


def figures_of(row: Row, measured: Mapping[str, Measured], paper: Paper) -> list[Figure]:
    """Compare the counts that a row prints with ours.

    Args:
        row (Row): One of the paper's.
        measured (dict[str, Measured]): By network.
        paper (Paper): The tables.
    """
    return [
        _figure(row, column, text, measured, paper.networks)
        for column, text in row.printed.items()
        if column in COUNTS and text is not None
    ]


def compared(paper: Paper, measured: Mapping[str, Measured]) -> tuple[list[list[str]], list[str]]:
    """Return a line of texts for every printed count, in the order of :data:`HEAD`, and the notes that they refer to.

    Rows that print the same counts of the same network are one line each.

    Args:
        paper (Paper): The tables.
        measured (dict[str, Measured]): By network.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in paper.rows:
        counts = tuple(row.printed.get(column) for column in COUNTS)
        groups.setdefault((row.table, row.teacher, row.target, row.network, counts), []).append(row)
    lines, notes = [], []
    for rows in groups.values():
        row, methods = rows[0], ', '.join(row.method for row in rows)
        for figure in figures_of(row, measured, paper):
            notes += [reason for reason in figure.reasons if reason not in notes]
            numbers = ', '.join(f'[{notes.index(reason) + 1}]' for reason in figure.reasons)
            whose = f'{row.teacher} → {row.target}' if row.target else row.teacher
            lines.append([row.table, whose, methods, figure.column, figure.printed, *_texts(figure), numbers])
    return lines, notes


def _texts(figure: Figure) -> tuple[str, str, str]:
    ratio = '' if figure.ratio is None else f' ({figure.ratio:.3f}×)'
    ours, again = f'{figure.value:,}', f'{figure.as_printed:,}'
    if figure.verdict == 'agrees':
        return ours + ratio, '', figure.verdict
    off = '' if figure.verdict == 'explained' else f', {figure.deviation:+.2f} %'.replace('-', MINUS)
    return ours, again + ratio, figure.verdict + off


def _figure(
    row: Row, column: str, text: str, measured: Mapping[str, Measured], networks: Mapping[str, Network]
) -> Figure:
    printed, own, base = Printed.parse(text), measured[row.network], measured[row.baseline]
    value, as_printed = own.value(column), own.as_printed(column)
    ratio, ratio_as_printed = base.value(column) / value, base.as_printed(column) / as_printed
    network, deviation = networks[row.network], printed.deviation(as_printed)
    verdict, reasons = 'differs', _reasons(network, column)
    if printed.fits(value, ratio):
        verdict, reasons = 'agrees', []
    elif printed.fits(as_printed, ratio_as_printed):
        verdict = 'explained'
        if printed.ratio is not None:
            reasons += _reasons(networks[row.baseline], column)
    elif column in network.deviations and rounds(deviation, network.deviations[column].removesuffix(' %')):
        verdict = 'unresolved'
        reasons.append(network.reason)
    shown = (ratio if verdict == 'agrees' else ratio_as_printed) if printed.ratio is not None else None
    return Figure(column, text, value, as_printed, shown, verdict, tuple(dict.fromkeys(reasons)), deviation)


def _reasons(network: Network, column: str) -> list[str]:
    return [correction.reason for correction in network.corrections if column in correction.columns]


def _with_layers(network: nn.Module, layers: Mapping[str, dict]) -> nn.Module:
    network = deepcopy(network)
    device = next(network.parameters()).device
    for path, config in layers.items():
        config = dict(config)
        layer = getattr(nn, config.pop('type'))(**config).to(device)
        try:
            set_module(network, path, layer.train(network.training))
        except KeyError as error:
            raise ValueError(f'a correction is about a layer that is not there: {error.args[0]}') from error
    return network


def _recounted(found: Complexity, corrections: Sequence[Correction]) -> Complexity:
    rows = list(found.rows)
    for path in (path for correction in corrections for path in correction.leave_out):
        left_out = found.under(path).rows
        if not left_out:
            raise ValueError(f'a correction leaves out {path!r}, which is not counted{_near(path, found.rows)}')
        rows = [row for row in rows if row not in left_out]
    for path, size in ((p, n) for correction in corrections for p, n in correction.map_size.items()):
        if path not in (row.path for row in rows):
            raise ValueError(f'a correction is about {path!r}, which is not counted{_near(path, found.rows)}')
        rows = [_resized(row, size) if row.path == path else row for row in rows]
    sums = {name: sum(getattr(row, name) for row in rows) for name in ('params', 'mults', 'acts')}
    return replace(found, rows=tuple(rows), **sums)


def _resized(row: LayerCount, size: int) -> LayerCount:
    _, height, width = row.out_shape
    return replace(row, mults=row.mults * size**2 // (height * width))


def _near(path: str, rows: Sequence[LayerCount]) -> str:
    return nearest(path, [row.path for row in rows])
