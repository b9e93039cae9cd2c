"""Write the comparison of students with their teacher and with one another as one self-contained page."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmrecast.analysis import headline as words
from mmrecast.analysis.comparison import Comparison
from mmrecast.analysis.comparison_tables import cells, columns
from mmrecast.analysis.footnotes import notes as how_to_read
from mmrecast.analysis.footnotes import settings
from mmrecast.analysis.numbers import NOTHING, duration
from mmrecast.analysis.plan_table import MEASURES, arrow
from mmrecast.analysis.plots import NAMED, SERIES, Mark, Point, latency_figure, plan_figure, stages_figure
from mmrecast.analysis.rows import ResultRow, batch_sizes
from mmrecast.utils.checkpoint import write_text

LONG = 34  # rows of a plan that is not unfolded


def write_report(
    path: str | Path,
    title: str,
    comparison: Comparison,
    *,
    command: str | Sequence[str] | None = None,
    teacher_name: str | None = None,
    student_name: str | None = None,
    main: str | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write one HTML page that needs no other file; every number in it comes from the comparison.

    Args:
        path (str | Path): File to write.
        title (str): Heading of the page.
        comparison (Comparison): From :func:`mmrecast.analysis.comparison.compare`.
        command (str | Sequence[str], optional): What was typed to get here.
        teacher_name (str, optional): How the headline calls the teacher. Defaults to None: as its config does.
        student_name (str, optional): How the headline calls the student. Defaults to None: what the plan says.
        main (str, optional): Line or method the headline is about. Defaults to None: ``recasting``, else the
            first.
        notes (Iterable[str]): Further remarks for the foot of the page.

    Returns:
        Path: The file written.

    Raises:
        ValueError: No results.
        KeyError: ``main`` is not among the results.
        ImportError: matplotlib is not installed.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if not comparison.results:
        raise ValueError('no results to report on: give one or more')
    rows = comparison.rows
    student = words.main_row(rows, main)
    marks = line_marks(rows)
    drawn = [row for row in rows if not row.is_teacher and any(map(_has_stages, row.results))]
    measured = [row for row in rows if row.latencies and row.error]
    sizes = batch_sizes(rows)
    plan = comparison.plans.get(student.key, ())
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(files('mmrecast.analysis').joinpath('report.html').read_text(encoding='utf-8'))
    html = template.render(
        title=title,
        headline=words.headline(rows, plan, main, teacher_name or comparison.teacher_name or None, student_name),
        comparison=words.comparison(rows, main),
        caution=words.caution(rows, comparison.results[0]['val_images'], main),
        tiles=words.tiles(rows, main),
        columns=columns(rows),
        rows=[(_name_of(row), cells(row, sizes)[1:], marks[row.label].css, row is student) for row in rows],
        figures={name: Markup(svg) for name, svg in _figures(rows, drawn, marks).items()},
        measured=[(row.label, marks[row.label].css) for row in measured] if len(measured) > NAMED else [],
        drawn=[(row.label, marks[row.label].css) for row in drawn] if len(drawn) > 1 else [],
        stages=[(_run_name(row, run), _stage_cells(run)) for row in drawn for run in row.results if _has_stages(run)],
        stage_images=_numbers_of_images(drawn),
        plans=[_plan_part(number, key, comparison, Markup) for number, key in enumerate(comparison.plans)],
        settings=settings(comparison, command),
        notes=[*how_to_read(comparison), *notes],
    )
    write_text(html, path)
    return Path(path)


def _name_of(row: ResultRow) -> tuple[str, str]:
    """Return a line's name in two parts: the method, and what it is in detail."""
    parts = [row.detail] * bool(row.detail) + [f'{row.runs}\N{NO-BREAK SPACE}seeds'] * (row.runs > 1)
    return row.method or row.label, ', '.join(parts)


def line_marks(rows: Sequence[ResultRow]) -> dict[str, Mark]:
    """Return what each line is drawn with: of one student, a colour each; of several, a colour for each student.

    Lines of one student then differ in shape, and a method has the same shape wherever that can be.
    """
    students = [row for row in rows if not row.is_teacher]
    keys, methods = (list(dict.fromkeys(getattr(row, name) for row in students)) for name in ('key', 'method'))
    marks = {row.label: Mark(0) for row in rows if row.is_teacher}
    for number, row in enumerate(students):
        mark = Mark(number + 1, number // SERIES)
        if len(keys) > 1:
            mark = Mark(keys.index(row.key) + 1, methods.index(row.method))
        while mark in marks.values() and mark.shape < len(rows):
            mark = Mark(mark.colour, mark.shape + 1)
        marks[row.label] = mark
    return marks


def _figures(rows: Sequence[ResultRow], drawn: Sequence[ResultRow], marks: dict[str, Mark]) -> dict[str, str]:
    """Return the figures for which there is data."""
    figures, panels = {}, []
    for size in batch_sizes(rows):
        points = [
            Point(row.label, row.latencies[size].median_ms, 100 - row.error.mean, marks[row.label], row.error.sd)
            for row in rows
            if size in row.latencies and row.error
        ]
        panels += [(size, points)] if points else []
    if panels:
        figures['latency'] = latency_figure(panels)
    runs = [(run['stages'], marks[row.label]) for row in drawn for run in row.results if _has_stages(run)]
    if runs:
        teacher = next((row.error for row in rows if row.is_teacher), None)
        figures['stages'] = stages_figure(runs, None if teacher is None else 100 - teacher.mean)
    return figures


def _has_stages(run: dict) -> bool:
    """Tell whether a run went block by block: whether any of its stages was held against the teacher."""
    return any(stage.get('relative_error') is not None for stage in run['stages'])


def _run_name(row: ResultRow, run: dict) -> str:
    return f'{row.label}, seed {run["seed"]}'


def _numbers_of_images(rows: Sequence[ResultRow]) -> list[int]:
    """Return on how many images the stages were judged."""
    stages = (stage for row in rows for run in row.results for stage in run['stages'])
    return sorted({stage['val_images'] for stage in stages if stage.get('val_images')})


def _plan_part(number: int, key: str, comparison: Comparison, markup: type) -> dict[str, Any]:
    """Return what the page says of one student's plan."""
    rows = comparison.plans[key]
    counted = [row for row in rows if row['kind'] == 'block' and row['acts'] is not None]
    figure = plan_figure(counted, 'acts', 'activations read', f'plan-{number}') if counted else ''
    return dict(
        name=comparison.student_names.get(key, ''),
        methods=list(dict.fromkeys(row.method for row in comparison.rows if row.key == key and not row.is_teacher)),
        figure=markup(figure),
        unfolded=len(comparison.plans) == 1 and len(rows) <= LONG,
        rows=[_plan_cells(row) for row in rows],
    )


def _plan_cells(row: dict) -> dict[str, Any]:
    texts = [
        row['path'],
        row['source'] or NOTHING,
        row['target'] or NOTHING,
        *(arrow(row[m]) for m in MEASURES),
    ]
    return dict(cells=texts, kind=row['kind'])


def _stage_cells(run: dict) -> list[list[str]]:
    """Return one line of texts per stage."""

    def number(value: float | None, digits: str) -> str:
        return NOTHING if value is None else format(value, digits)

    return [
        [
            str(place),
            ', '.join(filter(None, [stage.get('name') or stage.get('kind') or NOTHING, stage.get('regression')])),
            number(stage.get('iters'), ','),
            number(stage.get('images'), ','),
            NOTHING if stage.get('seconds') is None else duration(stage['seconds']),
            number(stage.get('relative_error_start'), '.4g'),
            number(stage.get('relative_error'), '.4g'),
            number(stage.get('top1'), '.2f'),
        ]
        for place, stage in enumerate(run['stages'], start=1)
    ]
