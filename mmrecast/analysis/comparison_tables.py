"""Write the lines of a comparison as a table: for the terminal, in Markdown, in CSV, and as plain data."""

import csv
import sys
from collections.abc import Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import Any

from mmrecast.analysis.numbers import NOTHING, Stat, milliseconds, short, times
from mmrecast.analysis.results import images_seen, teacher_top1
from mmrecast.analysis.rows import ResultRow, batch_sizes
from mmrecast.analysis.students import student_names
from mmrecast.analysis.tables import render_table

LINE = 'method'
COUNTS = ('params', 'mults', 'acts')
DISPENSABLE = ('acts', 'mults', 'ms', 'images seen', 'params', 'training seconds')  # what a narrow terminal leaves out


def columns(rows: Sequence[ResultRow]) -> list[str]:
    """Return the headings; the latency has two for each batch size measured."""
    latency = [f'{what}, batch {size}' for size in batch_sizes(rows) for what in ('ms', 'speed-up')]
    return [LINE, 'error %', 'gap to teacher (points)', *COUNTS, *latency, 'images seen', 'training seconds']


def cells(row: ResultRow, sizes: Sequence[int]) -> list[str]:
    """Return the texts of a line in the order of :func:`columns`.

    Args:
        row (ResultRow): The line.
        sizes (Sequence[int]): The batch sizes of :func:`mmrecast.analysis.rows.batch_sizes`.
    """
    latency = []
    for size in sizes:
        measured = row.latencies.get(size)
        latency += [milliseconds(measured.median_ms if measured else None), times(row.speed_ups.get(size))]
    return [
        f'{row.label} ({row.runs} seeds)' if row.runs > 1 else row.label,
        row.error.text() if row.error else NOTHING,
        row.gap.text(sign=True) if row.gap else NOTHING,
        *(short(getattr(row.complexity, measure, None)) for measure in COUNTS),
        *latency,
        f'{row.images.mean:,.0f}' if row.images else NOTHING,
        row.seconds.text(0) if row.seconds else NOTHING,
    ]


def table_markdown(rows: Sequence[ResultRow]) -> str:
    """Return the rows as a Markdown table."""
    head, sizes = columns(rows), batch_sizes(rows)
    lines = [head, ('---', *('---:' for _ in head[1:])), *(cells(row, sizes) for row in rows)]
    return '\n'.join(f'| {" | ".join(str(cell).replace("|", chr(92) + "|") for cell in line)} |' for line in lines)


def table_terminal(rows: Sequence[ResultRow], width: int | None = None) -> str:
    """Return the rows as a table for the terminal; without colour codes where the output is not one.

    Args:
        rows (Sequence[ResultRow]): From :func:`mmrecast.analysis.rows.table_rows`.
        width (int, optional): Columns of text; where they do not suffice, what matters least is left out.
            Defaults to None: the terminal's.
    """
    head, sizes = columns(rows), batch_sizes(rows)
    lines = [cells(row, sizes) for row in rows]
    room = width or (get_terminal_size().columns if sys.stdout.isatty() else 200)
    for name in DISPENSABLE:
        if _needed(head, lines) <= room:
            break
        kept = [i for i, heading in enumerate(head) if heading.split(',')[0] != name]
        head, lines = [head[i] for i in kept], [[line[i] for i in kept] for line in lines]
    return render_table(head, lines, right=head[1:], width=width)


def table_csv(rows: Sequence[ResultRow]) -> str:
    """Return the rows as CSV with unrounded numbers; an empty field is something not known."""
    names = student_names([result for row in rows for result in row.results])
    lines = [_flat(line_data(row, names)) for row in rows]
    fields = list(dict.fromkeys(name for line in lines for name in line))
    out = StringIO()
    writer = csv.DictWriter(out, fields, lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def line_data(row: ResultRow, names: dict[str, str]) -> dict[str, Any]:
    """Return a line as plain data with unrounded numbers.

    Args:
        row (ResultRow): The line.
        names (dict[str, str]): Of the students, from :func:`mmrecast.analysis.students.student_names`.
    """
    counts = {measure: getattr(row.complexity, measure, None) for measure in COUNTS}
    latency = {
        size: dict(
            median_ms=known.median_ms, p10_ms=known.p10_ms, p90_ms=known.p90_ms, speed_up=row.speed_ups.get(size)
        )
        for size, known in row.latencies.items()
    }
    return dict(
        line=row.label, method=row.method or row.label, student=names.get(row.key, ''), runs=row.runs,
        seeds=[result['seed'] for result in row.results], error=_stat(row.error), gap=_stat(row.gap), **counts,
        latency=latency, images=_stat(row.images), seconds=_stat(row.seconds),
    )  # fmt: skip


def run_data(result: dict, label: str) -> dict[str, Any]:
    """Return what the comparison took from a run, and the line it went into."""
    return dict(
        line=label, path=result.get('path'), config=result.get('config'), method=result['method'],
        seed=result['seed'], top1=result['top1'], teacher_top1=teacher_top1(result), images=images_seen(result),
        images_trained=result['images'], seconds=result['seconds'],
    )  # fmt: skip


def _needed(head: Sequence[str], lines: Sequence[Sequence[str]]) -> int:
    """Return the columns of text a table takes whose headings, but no other texts, may be broken at spaces."""
    widest = (max(map(len, [*heading.split(), *texts])) for heading, *texts in zip(head, *lines, strict=True))
    return sum(widest) + 3 * len(head)


def _stat(stat: Stat | None) -> dict[str, Any] | None:
    return None if stat is None else dict(mean=stat.mean, sd=stat.sd, n=stat.n)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of :func:`line_data` without anything nested."""
    flat: dict[str, Any] = {}
    for name, value in line.items():
        if name == 'latency':
            flat |= {f'batch{size}_{what}': number for size, known in value.items() for what, number in known.items()}
        elif name in ('error', 'gap', 'images', 'seconds'):
            flat |= {f'{name}_{part}': (value or {}).get(part) for part in ('mean', 'sd')}
        elif name == 'seeds':
            flat[name] = ' '.join(map(str, value))
        else:
            flat[name] = value
    return flat
