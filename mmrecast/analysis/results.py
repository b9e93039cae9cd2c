"""Read the results that runs have left in their work directories, and set them side by side."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.numbers import NOTHING, Stat, milliseconds, short, times
from mmrecast.analysis.tables import render_table

REQUIRED = ('method', 'seed', 'dataset', 'classes', 'stages', 'images', 'seconds', 'top1', 'val_images')
COLUMNS = (
    'method', 'error %', 'gap to teacher (points)', 'params', 'mults', 'acts', 'ms/image', 'speed-up',
    'images seen', 'training seconds',
)  # fmt: skip


@dataclass(frozen=True)
class ResultRow:
    """One line of a comparison: a method's runs over its seeds, or the teacher.

    Args:
        label (str): What the line is called.
        runs (int): How many runs it stands for.
        error (Stat, optional): Top-1 error in percent.
        gap (Stat, optional): Error minus the teacher's error in points, each run against its own teacher.
        images (Stat, optional): Training images seen.
        seconds (Stat, optional): Training time.
        complexity (Complexity, optional): Of the network.
        latency (Latency, optional): Of the network.
        speed_up (float, optional): The teacher's latency over this one's.
        method (str): The method, ``'teacher'`` for the teacher.
    """

    label: str
    runs: int
    error: Stat | None
    gap: Stat | None = None
    images: Stat | None = None
    seconds: Stat | None = None
    complexity: Complexity | None = None
    latency: Latency | None = None
    speed_up: float | None = None
    method: str = 'teacher'

    def cells(self) -> list[str]:
        """Return the texts of the line in the order of ``COLUMNS``."""
        counts = [short(getattr(self.complexity, m, None)) for m in ('params', 'mults', 'acts')]
        return [
            f'{self.label} ({self.runs} seeds)' if self.runs > 1 else self.label,
            self.error.text() if self.error else NOTHING,
            self.gap.text(sign=True) if self.gap else NOTHING,
            *counts,
            milliseconds(self.latency.ms_per_image if self.latency else None),
            times(self.speed_up),
            f'{self.images.mean:,.0f}' if self.images else NOTHING,
            self.seconds.text(0) if self.seconds else NOTHING,
        ]


def read_results(paths: Iterable[str | Path]) -> list[dict]:
    """Read result files that may be compared with each other.

    Args:
        paths (Iterable[str | Path]): Work directories, or ``result.json`` files themselves.

    Returns:
        list[dict]: The results, each with its ``path``.

    Raises:
        FileNotFoundError: A path that is not there, or a directory without a ``result.json``.
        ValueError: A file that is not JSON or lacks fields, or results that cannot stand in one table.
    """
    results = [_read(Path(path)) for path in paths]
    if not results:
        raise ValueError('no results to compare: give one work directory or more')
    check_comparable(results)
    return results


def check_comparable(results: Sequence[dict]) -> None:
    """Refuse results of different data, class counts, test images or teachers, and a seed that appears twice.

    Raises:
        ValueError: Which two results differ, and in what.
    """
    first = results[0]
    for field, words in (
        ('dataset', 'data sets'),
        ('classes', 'numbers of classes'),
        ('val_images', 'numbers of test images'),
    ):
        for other in results[1:]:
            if other[field] != first[field]:
                raise ValueError(
                    f'results on different {words} do not belong in one table: '
                    f'{_name(first)} has {first[field]!r}, {_name(other)} has {other[field]!r}'
                )
    seen, teachers = {}, {}
    for result in results:
        key = (*_group(result), result['seed'])
        if key in seen:
            raise ValueError(
                f'seed {result["seed"]} of {result["method"]!r} is there twice: {_name(seen[key])} and {_name(result)}'
            )
        seen[key] = result
        top1 = _teacher_top1(result)
        if top1 is None:
            continue
        other = teachers.setdefault(result['seed'], result)
        if abs(_teacher_top1(other) - top1) > 0.05:
            raise ValueError(
                f'results with different teachers do not belong in one table: {_name(other)} was taught '
                f'by one with {_teacher_top1(other):.2f} % top-1, {_name(result)} by one with {top1:.2f} %'
            )


def table_rows(
    results: Sequence[dict],
    complexities: dict[str, Complexity] | None = None,
    latencies: dict[str, Latency] | None = None,
) -> list[ResultRow]:
    """Group results by method and average over the seeds; the teacher, where there is one, comes first.

    Runs of one method with different configs or different numbers of images are not averaged: each is a line
    of its own.

    Args:
        results (Sequence[dict]): From :func:`read_results`.
        complexities (dict[str, Complexity], optional): By line or method; ``'student'`` stands for every line
            that is not named, ``'teacher'`` for the teacher.
        latencies (dict[str, Latency], optional): Keyed alike; all from one call of ``compare_latency``.
    """
    complexities, latencies = complexities or {}, latencies or {}
    groups: dict[str, list[dict]] = {}
    for label, result in zip(method_labels(results), results, strict=True):
        groups.setdefault(label, []).append(result)
    by_seed = {r['seed']: _teacher_top1(r) for r in results if _teacher_top1(r) is not None}
    shared = next(iter(by_seed.values())) if len(set(by_seed.values())) == 1 else None
    base = latencies.get('teacher')
    rows = []
    if by_seed or 'teacher' in complexities or base:
        values = [shared] if shared is not None else list(by_seed.values())
        error = Stat.of([100 - v for v in values])
        rows.append(
            ResultRow(
                'teacher',
                runs=max(len(values), 1),
                error=error,
                complexity=complexities.get('teacher'),
                latency=base,
                speed_up=1.0 if base else None,
            )
        )
    for label, runs in groups.items():
        method = runs[0]['method']
        names = (label, method, 'student')
        latency = next((latencies[n] for n in names if n in latencies), None)
        gaps = []
        for run in runs:
            own = _teacher_top1(run)
            teacher = own if own is not None else by_seed.get(run['seed'], shared)
            gaps.append(None if teacher is None or run['top1'] is None else teacher - run['top1'])
        rows.append(
            ResultRow(
                label,
                runs=len(runs),
                error=Stat.of([None if r['top1'] is None else 100 - r['top1'] for r in runs]),
                gap=Stat.of(gaps),
                images=Stat.of([images_seen(r) for r in runs]),
                seconds=Stat.of([r['seconds'] for r in runs]),
                complexity=next((complexities[n] for n in names if n in complexities), None),
                latency=latency,
                speed_up=latency.ratio / base.ratio if latency and base else None,
                method=method,
            )
        )
    return rows


def images_seen(result: dict) -> int:
    """Return the images a run trained on and those its closed-form starts read."""
    return result['images'] + sum(stage.get('start_images', 0) for stage in result['stages'])


def method_labels(results: Sequence[dict]) -> list[str]:
    """Return each result's line: its method, with what tells it from other lines of that method."""
    groups = list(dict.fromkeys(_group(result) for result in results))
    labels = {}
    for method, config, images in groups:
        alike = [g for g in groups if g[0] == method]
        extra = []
        if len({g[1] for g in alike}) > 1:
            extra.append(Path(config).stem if config else 'no config')
        if len({g[2] for g in alike if g[1] == config}) > 1:
            extra.append(f'{images:,} images')
        labels[method, config, images] = f'{method} ({", ".join(extra)})' if extra else method
    return [labels[_group(result)] for result in results]


def table_markdown(rows: Sequence[ResultRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = [COLUMNS, ('---', *('---:' for _ in COLUMNS[1:])), *(row.cells() for row in rows)]
    return '\n'.join(f'| {" | ".join(str(cell).replace("|", chr(92) + "|") for cell in line)} |' for line in lines)


def table_terminal(rows: Sequence[ResultRow], width: int | None = None) -> str:
    """Return the rows as a table for the terminal; without colour codes where the output is not one."""
    return render_table(COLUMNS, [row.cells() for row in rows], right=COLUMNS[1:], width=width)


def _read(path: Path) -> dict:
    file = path / 'result.json' if path.is_dir() else path
    if not file.is_file():
        inside = sorted(str(p.parent) for p in path.glob('*/result.json'))[:3] if path.is_dir() else []
        hint = f'; did you mean {", ".join(inside)}?' if inside else '; it is written when a run ends'
        raise FileNotFoundError(f'no result at {file}{hint}')
    try:
        result = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{file} is not JSON: {error}') from error
    if not isinstance(result, dict):
        raise ValueError(f'{file} is not the result of a run: it holds no object')
    missing = [field for field in REQUIRED if field not in result]
    if missing:
        raise ValueError(f'{file} is not the result of a run: it lacks {", ".join(missing)}')
    for field in ('top1', 'images', 'seconds'):
        number = isinstance(result[field], (int, float)) and not isinstance(result[field], bool)
        if not number and not (field == 'top1' and result[field] is None):
            raise ValueError(f'{file} is not the result of a run: {field} is {result[field]!r}, not a number')
    return {**result, 'path': str(file)}


def _name(result: dict) -> str:
    return result.get('path') or f'{result["method"]} (seed {result["seed"]})'


def _teacher_top1(result: dict) -> float | None:
    return (result.get('teacher') or {}).get('top1')


def _group(result: dict) -> tuple:
    """Return what runs must share to be averaged."""
    return result['method'], result.get('config'), images_seen(result)
