"""Set results side by side: a line for the teacher and one for each method and student, averaged over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.numbers import Stat
from mmrecast.analysis.results import images_seen, line_key, student_key, teacher_top1
from mmrecast.analysis.students import TEACHER, student_names, teachers_own


@dataclass(frozen=True)
class Measures:
    """What was measured of one network.

    Args:
        complexity (Complexity, optional): Per image.
        latencies (dict[int, Latency]): By batch size; those of one batch size come from one ``compare_latency``.
    """

    complexity: Complexity | None = None
    latencies: dict[int, Latency] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultRow:
    """One line of a comparison: a method's runs on one student over its seeds, or the teacher.

    Args:
        label (str): What the line is called.
        runs (int): How many runs it stands for.
        error (Stat, optional): Top-1 error in percent.
        gap (Stat, optional): Error minus the teacher's error in points, each run against its own teacher.
        images (Stat, optional): Training images seen.
        seconds (Stat, optional): Training time.
        measures (Measures): Of the network.
        speed_ups (dict[int, float]): The teacher's latency over this one's, by batch size.
        method (str): The method, '' for the teacher.
        detail (str): What tells the line from the method's others, '' where it has no others.
        key (str): The student, see :func:`mmrecast.analysis.results.student_key`.
        results (tuple[dict, ...]): The runs.
    """

    label: str
    runs: int
    error: Stat | None
    gap: Stat | None = None
    images: Stat | None = None
    seconds: Stat | None = None
    measures: Measures = Measures()
    speed_ups: dict[int, float] = field(default_factory=dict)
    method: str = ''
    detail: str = ''
    key: str = ''
    results: tuple[dict, ...] = ()

    @property
    def is_teacher(self) -> bool:
        """bool: Whether this is the teacher's line."""
        return not self.method

    @property
    def complexity(self) -> Complexity | None:
        """Complexity | None: Of the network."""
        return self.measures.complexity

    @property
    def latencies(self) -> dict[int, Latency]:
        """dict[int, Latency]: Of the network, by batch size."""
        return self.measures.latencies


def table_rows(results: Sequence[dict], measures: dict[str, Measures] | None = None) -> list[ResultRow]:
    """Group results by method and student and average over the seeds; the teacher, where there is one, comes first.

    Runs of one method with different configs or different numbers of images are not averaged: each is a line
    of its own. A run that trained the teacher itself is no line, its cost is the teacher's.

    Args:
        results (Sequence[dict]): From :func:`mmrecast.analysis.results.read_results`, with or without constructors.
        measures (dict[str, Measures], optional): By :func:`mmrecast.analysis.results.student_key`, and ``'teacher'``.
    """
    measures = measures or {}
    own = teachers_own(results)
    students = [result for result in results if result not in own]
    by_seed = {r['seed']: teacher_top1(r) for r in students if teacher_top1(r) is not None}
    shared = next(iter(by_seed.values())) if len(set(by_seed.values())) == 1 else None
    base = measures.get(TEACHER, Measures())
    rows = [_teacher_row([shared] if shared is not None else list(by_seed.values()), own, base)]
    if rows[0].error is None and TEACHER not in measures:
        rows = []
    for label, (detail, runs) in _lines(students).items():
        known = measures.get(student_key(runs[0]), Measures())
        both = known.latencies.keys() & base.latencies.keys()
        teachers = [by_seed.get(r['seed'], shared) if teacher_top1(r) is None else teacher_top1(r) for r in runs]
        gaps = [None if None in (t, r['top1']) else t - r['top1'] for t, r in zip(teachers, runs, strict=True)]
        rows.append(
            ResultRow(
                label,
                runs=len(runs),
                error=Stat.of([None if r['top1'] is None else 100 - r['top1'] for r in runs]),
                gap=Stat.of(gaps),
                images=Stat.of([images_seen(r) for r in runs]),
                seconds=Stat.of([r['seconds'] for r in runs]),
                measures=known,
                speed_ups={n: known.latencies[n].ratio / base.latencies[n].ratio for n in sorted(both)},
                method=runs[0]['method'],
                detail=detail,
                key=student_key(runs[0]),
                results=tuple(runs),
            )
        )
    return rows


def batch_sizes(rows: Sequence[ResultRow]) -> list[int]:
    """Return the batch sizes at which latency was measured."""
    return sorted({size for row in rows for size in row.latencies})


def _teacher_row(top1: Sequence[float], own: Sequence[dict], measures: Measures) -> ResultRow:
    return ResultRow(
        TEACHER,
        runs=max(len(top1), 1),
        error=Stat.of([100 - value for value in top1]),
        images=Stat.of([images_seen(r) for r in own]),
        seconds=Stat.of([r['seconds'] for r in own]),
        measures=measures,
        speed_ups=dict.fromkeys(measures.latencies, 1.0),
        results=tuple(own),
    )


def _lines(results: Sequence[dict]) -> dict[str, tuple[str, list[dict]]]:
    """Return what tells each line from the others of its method, and its runs, by its label, which is made of both."""
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        groups.setdefault(line_key(result), []).append(result)
    names = student_names(results)
    lines: dict[str, tuple[str, list[dict]]] = {}
    for key, runs in groups.items():
        method, student, config, images = key
        alike = [other for other in groups if other[:2] == key[:2]]
        extra = [names[student]] if len(names) > 1 and student else []
        if len({other[2] for other in alike}) > 1:
            extra.append(Path(config).stem or 'no config')
        if len({other[3] for other in alike if other[2] == config}) > 1:
            extra.append(f'{images:,} images')
        if _label(method, extra) in lines or _label(method, extra) == TEACHER:  # networks that are not known
            extra.append(f'no. {len(lines) + 1}')
        lines[_label(method, extra)] = ', '.join(extra), runs
    return lines


def _label(method: str, extra: Sequence[str]) -> str:
    if not extra:
        return method
    said = ', '.join(extra)
    return f'{method[:-1]}, {said})' if method.endswith(')') else f'{method} ({said})'
