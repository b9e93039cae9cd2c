"""The tables of Network Recasting (AAAI 2019) as they are printed, and what our network behind each row is."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mmrecast.utils.names import nearest

BATCH = 64  # of the column Acts/batch
COUNTS = {
    'Params': lambda count: count.params,
    'Mults': lambda count: count.mults,
    'Acts/image': lambda count: count.acts,
    'Acts/batch': lambda count: BATCH * count.acts,
    'Filters': lambda count: count.rows[0].out_shape[0],
}
"""dict[str, Callable]: The columns that are counted, and what each takes of a count."""

DATA = {'C10+': 'CIFAR-10', 'C100+': 'CIFAR-100', 'Top1': 'ILSVRC2012', 'Top5': 'ILSVRC2012'}
"""dict[str, str]: Whose test errors (%) stand in a column."""

_SUFFIXES = {'CIFAR-10': 'cifar10', 'CIFAR-100': 'cifar100', 'ILSVRC2012': 'imagenet'}
_METHODS = {'Baseline': 'backprop', 'Recasting': 'recasting', 'KD': 'kd_mse', 'Backprop': 'backprop'}
_UNITS = {'': 1, 'M': 10**6, 'B': 10**9}
_PRINTED = re.compile(r'(?P<number>\d+(?:\.\d+)?)(?P<unit>[MB]?)(?: \((?P<ratio>\d+\.\d+)×\))?')


@dataclass(frozen=True)
class Printed:
    """A count as a table prints it: ``'0.85M (1.0×)'`` is a number, its unit and the baseline's count over it."""

    number: str
    unit: str
    ratio: str | None

    @classmethod
    def parse(cls, text: str) -> 'Printed':
        """Read a cell.

        Raises:
            ValueError: It is no such figure.
        """
        found = _PRINTED.fullmatch(text)
        if found is None:
            raise ValueError(f'{text!r} is no printed count like 0.85M, 5.24B or 0.41M (2.1×)')
        return cls(**found.groupdict())

    def fits(self, value: float, ratio: float) -> bool:
        """Tell whether a count and its ratio are these figures once rounded to as many digits."""
        return rounds(value / _UNITS[self.unit], self.number) and (self.ratio is None or rounds(ratio, self.ratio))

    def deviation(self, value: float) -> float:
        """Return by how many percent ``value`` is above the printed number."""
        return 100 * (value / (float(self.number) * _UNITS[self.unit]) - 1)


@dataclass(frozen=True)
class Correction:
    """What the paper's counting leaves out or takes for something else, in the columns named.

    Args:
        columns (tuple[str]): Of :data:`COUNTS`.
        reason (str): What it is, in words.
        leave_out (tuple[str]): Layers that are not counted.
        map_size (dict[str, int]): Layers whose multiplications are counted as if they wrote a map of that many
            pixels squared.
        layers (dict[str, dict]): Layers of ``torch.nn`` that stand in the network counted, by path.
    """

    columns: tuple[str, ...]
    reason: str
    leave_out: tuple[str, ...] = ()
    map_size: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, dict] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """What rows stand for.

    Args:
        source (str): A config, from the repository's root, whose student is counted; or ``torchvision:NAME``.
        corrections (tuple[Correction]): What makes the printed figures of ours.
        reason (str): Why figures stay unresolved.
        deviations (dict[str, str]): By how much ours deviates then, by column: ``'-0.06 %'``.
    """

    source: str
    corrections: tuple[Correction, ...] = ()
    reason: str = ''
    deviations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        table (str): ``'Table 2'``.
        teacher (str): The network it stands under.
        method (str): ``'Baseline'``, ``'Recasting'``, ``'KD'`` or ``'Backprop'``.
        network (str): Key of the network.
        printed (dict[str, str]): What is printed, by column.
        baseline (str): Key of the network that printed ratios are over: the group's first.
        target (str): The student's type as the table names it, ``''`` for the baseline.
        notebook (dict[str, str]): The errors (%) of the authors' notebooks.
    """

    table: str
    teacher: str
    method: str
    network: str
    printed: Mapping[str, str]
    baseline: str
    target: str = ''
    notebook: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """str: ``'Recasting (Conv)'``."""
        return f'{self.method} ({self.target})' if self.target else self.method

    def errors(self, data: str) -> list[str]:
        """Return the printed errors on a data set, top-1 first."""
        return [text for column, text in self.printed.items() if DATA.get(column) == data]

    def config(self, data: str) -> str:
        """Return the leaf config that trains this row on a data set, from the repository's root."""
        method = _METHODS[self.method]
        return f'configs/distill/{method}/{method}_{self.network}_{_SUFFIXES[data]}.py'


@dataclass(frozen=True)
class Table:
    """A table: its rows in order, what its caption says, and what is to be said of ours."""

    name: str
    title: str
    rows: tuple[Row, ...]
    remark: str = ''

    @property
    def data(self) -> list[str]:
        """list[str]: The data sets whose errors it has."""
        return list(dict.fromkeys(DATA[column] for row in self.rows for column in row.printed if column in DATA))


@dataclass(frozen=True)
class Paper:
    """The tables, and the networks that their rows stand for."""

    networks: Mapping[str, Network]
    tables: tuple[Table, ...]

    @property
    def rows(self) -> Iterator[Row]:
        """Iterator[Row]: Of all tables."""
        return (row for table in self.tables for row in table.rows)


def read_paper(path: str | Path) -> Paper:
    """Read the tables.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or an entry has unknown fields, lacks one, or names what is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no file of tables {path}')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        networks = {name: _network(entry) for name, entry in content['networks'].items()}
        tables = tuple(_table(table, networks) for table in content['tables'])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        missing = f'{error} is missing' if isinstance(error, KeyError) else ' '.join(str(error).split())
        raise ValueError(f'{path} does not hold the tables: {missing}') from error
    return Paper(networks, tables)


def rounds(value: float, printed: str) -> bool:
    """Tell whether ``value`` is what is printed once it is rounded to as many digits."""
    return f'{value:.{len(printed.partition(".")[2])}f}' == printed


def _network(entry: dict) -> Network:
    _only(entry, ('source', 'corrections', 'unresolved'))
    corrections = []
    for values in entry.get('corrections', ()):
        _only(values, [f.name for f in fields(Correction)])
        for column in values['columns']:
            _known(column, COUNTS, 'column')
        tuples = {name: tuple(values.get(name, ())) for name in ('columns', 'leave_out')}
        corrections.append(Correction(**(values | tuples)))
    return Network(entry['source'], tuple(corrections), **entry.get('unresolved', {}))


def _table(table: dict, networks: Mapping[str, Network]) -> Table:
    columns, rows = table['columns'], []
    for group in table['groups']:
        for entry in group['rows']:
            _only(entry, ('method', 'target', 'network', 'printed', 'notebook'))
            _known(entry['network'], networks, 'network')
            _known(entry['method'], _METHODS, 'method')
            cells = entry['printed']
            if len(cells) != len(columns):
                raise ValueError(f'{table["name"]} has {len(columns)} columns, but {entry["network"]} has {len(cells)}')
            printed = dict(zip(columns, cells, strict=True))
            for column in COUNTS.keys() & printed.keys():
                Printed.parse(printed[column])
            values: dict[str, Any] = dict(entry, printed=printed, baseline=group['rows'][0]['network'])
            rows.append(Row(table['name'], group['teacher'], **values))
    return Table(table['name'], table['title'], tuple(rows), table.get('remark', ''))


def _only(entry: dict, names: Sequence[str]) -> None:
    for name in entry:
        _known(name, names, 'field')


def _known(name: str, names: Sequence[str] | Mapping, what: str) -> None:
    if name not in names:
        raise ValueError(f'unknown {what} {name!r}{nearest(str(name), names)}')
