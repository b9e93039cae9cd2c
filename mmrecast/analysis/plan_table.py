"""Show a plan as a table: what every block was, what it became, and what that changes."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.numbers import NOTHING, shape_text, short
from mmrecast.analysis.tables import render_table
from mmrecast.utils.names import nearest

MEASURES = ('params', 'mults', 'acts')


def plan_rows(
    plan: dict, teacher: nn.Module | None, student: nn.Module | None, convention: str | None = None
) -> list[dict]:
    """Return one row per block of the plan, one for the rest of the network, and the totals.

    Args:
        plan (dict): ``input_shape`` and ``entries``, as stored with the student.
        teacher (nn.Module | None): The network the plan was made for.
        student (nn.Module | None): The network it made. Where one of the two is None, nothing is counted, and there
            is no row for the rest and none for the totals.
        convention (str, optional): Counting convention. Defaults to None: ``'imagenet'`` for images above 64
            pixels, else ``'cifar'``.

    Returns:
        list[dict]: Rows with ``kind`` (``'block'``, ``'rest'`` or ``'total'``), ``path``, ``action``,
        ``source``, ``target``, and ``params``, ``mults``, ``acts`` as pairs (before, after), None where not counted.

    Raises:
        ValueError: The plan lacks a field, or names a block that one of the networks does not have.
    """
    try:
        shape, entries = plan['input_shape'], plan['entries']
        described = [_describe(entry) for entry in entries]
    except KeyError as error:
        raise ValueError(f'not a plan: the field {error} is missing; it has {", ".join(plan) or "none"}') from error
    if teacher is None or student is None:
        return [row | dict.fromkeys(MEASURES) for row in described]
    convention = convention or convention_for(shape)
    for role, network in (('teacher', teacher), ('student', student)):
        paths = dict(network.named_modules())
        for row in described:
            if row['path'] not in paths:
                close = nearest(row['path'], paths)
                raise ValueError(f'the {role} has no block {row["path"]!r} that the plan names{close}')
    before, after = count(teacher, shape, convention), count(student, shape, convention)
    for row, entry in zip(described, entries, strict=True):
        modules = (entry['path'], *entry.get('span', ()))
        parts = before.under(*modules), after.under(*modules)
        row.update({m: tuple(getattr(part, m) for part in parts) for m in MEASURES})
    total = {m: (getattr(before, m), getattr(after, m)) for m in MEASURES}
    rest = {m: tuple(total[m][i] - sum(row[m][i] for row in described) for i in (0, 1)) for m in MEASURES}
    blank = dict(action='', source='', target='')
    described.append(dict(kind='rest', path='everything else', **blank, **rest))
    described.append(dict(kind='total', path='total', **blank, **total))
    return described


def format_plan(rows: Sequence[dict], width: int | None = None) -> str:
    """Return the rows as a table for the terminal; without colour codes where the output is not one.

    Args:
        rows (Sequence[dict]): From :func:`plan_rows`.
        width (int, optional): Columns of text. Defaults to None: the terminal's, or as wide as needed.
    """
    columns = ['block', 'source', 'target', *MEASURES]
    cells = [
        [row['path'], row['source'] or NOTHING, row['target'] or NOTHING, *(arrow(row[m]) for m in MEASURES)]
        for row in rows
    ]
    return render_table(columns, cells, right=MEASURES, last_apart=True, width=width)


def arrow(pair: tuple[int, int] | None) -> str:
    """Return ``'4.6 k → 2.3 k'``, one number where nothing changed, a dash where nothing is known."""
    if pair is None:
        return NOTHING
    before, after = pair
    return short(before) if before == after else f'{short(before)} → {short(after)}'


def _describe(entry: dict[str, Any]) -> dict:
    """Return path, action and the two descriptions of a plan's entry."""
    source, out_shape = entry['source'], entry['out_shape']
    target, action = entry.get('target'), entry['action']
    row = dict(kind='block', path=entry['path'], action=action, source=f'{source["kind"]} {shape_text(out_shape)}')
    if source.get('mid_channels') not in (None, source.get('out_channels')):
        row['source'] += f' (inner width {source["mid_channels"]})'
    if target is not None:
        width = entry.get('out_channels') or target.get('out_channels') or out_shape[0]
        row['target'] = f'{target["type"]} {shape_text([width, *out_shape[1:]])}'
    elif action == 'rebuild':
        width = entry['in_channels'] if 'in_channels' in entry else entry['new_in_channels']
        row['target'] = f'rebuilt for {width} input channels'
    else:
        row['target'] = 'kept'
    return row
