"""Write the comparison of a recasting with its teacher and with other methods as one self-contained page."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmrecast.analysis import headline as words
from mmrecast.analysis.complexity import Complexity
from mmrecast.analysis.latency import Latency
from mmrecast.analysis.numbers import NOTHING, duration, shape_text
from mmrecast.analysis.plan_table import MEASURES, arrow
from mmrecast.analysis.plots import SERIES, latency_figure, plan_figure, stages_figure
from mmrecast.analysis.results import COLUMNS, ResultRow, check_comparable, method_labels, table_rows
from mmrecast.utils.checkpoint import write_text


def write_report(
    path: str | Path,
    title: str,
    results: Sequence[dict],
    plan_rows: Sequence[dict] = (),
    latencies: dict[str, Latency] | None = None,
    complexities: dict[str, Complexity] | None = None,
    *,
    command: str | Sequence[str] | None = None,
    teacher_name: str | None = None,
    student_name: str | None = None,
    main: str | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write one HTML page that needs no other file; every number in it comes from the arguments.

    Args:
        path (str | Path): File to write.
        title (str): Heading of the page.
        results (Sequence[dict]): From :func:`mmrecast.analysis.results.read_results`.
        plan_rows (Sequence[dict]): From :func:`mmrecast.analysis.plan_table.plan_rows`. Defaults to none.
        latencies (dict[str, Latency], optional): By line or method, with ``'teacher'`` and ``'student'`` as
            in :func:`mmrecast.analysis.results.table_rows`.
        complexities (dict[str, Complexity], optional): Keyed alike.
        command (str | Sequence[str], optional): What was typed to get here.
        teacher_name (str, optional): How the headline calls the teacher.
        student_name (str, optional): How the headline calls the student.
        main (str, optional): Line or method the headline is about. Defaults to None: ``recasting``, else the
            first.
        notes (Iterable[str]): Further remarks for the foot of the page.

    Returns:
        Path: The file written.

    Raises:
        ValueError: No results, or results that cannot stand in one table.
        KeyError: ``main`` is not among the results.
        ImportError: matplotlib is not installed.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if not results:
        raise ValueError('no results to report on: give one or more')
    check_comparable(results)
    rows = table_rows(results, complexities, latencies)
    student = words.main_row(rows, main)
    colours = _colours(rows)
    labels = method_labels(results)
    runs = [run for run, label in zip(results, labels, strict=True) if label == student.label]
    figures = _figures(rows, colours, student, runs, plan_rows)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(files('mmrecast.analysis').joinpath('report.html').read_text(encoding='utf-8'))
    html = template.render(
        title=title,
        headline=words.headline(rows, plan_rows, main, teacher_name, student_name),
        comparison=words.comparison(rows, main),
        caution=words.caution(rows, results[0]['val_images'], main),
        tiles=words.tiles(rows, main),
        columns=COLUMNS,
        rows=[(row.cells(), colours[row.label], row is student) for row in rows],
        figures={name: Markup(svg) for name, svg in figures.items()},
        plan=[_plan_cells(row) for row in plan_rows],
        stages=_stage_cells(runs[0]),
        stage_run=f'{student.label}, seed {runs[0]["seed"]}',
        stage_images=sorted({s['val_images'] for r in runs for s in r['stages'] if s.get('val_images')}),
        settings=_settings(results, rows, command),
        notes=[*_notes(rows, 'stages' in figures), *notes],
    )
    write_text(html, path)
    return Path(path)


def _colours(rows: Sequence[ResultRow]) -> dict[str, int]:
    """Return 0 for the teacher and 1, 2, ... for the methods, repeating after ``SERIES``."""
    students = [row.label for row in rows if row.method != 'teacher']
    colours = {label: i % SERIES + 1 for i, label in enumerate(students)}
    return {**colours, **{row.label: 0 for row in rows if row.method == 'teacher'}}


def _figures(
    rows: Sequence[ResultRow],
    colours: dict[str, int],
    student: ResultRow,
    runs: Sequence[dict],
    plan: Sequence[dict],
) -> dict[str, str]:
    """Return the figures for which there is data."""
    figures = {}
    points = [
        (row.label, row.latency.ms_per_image, row.error.mean, row.error.sd, colours[row.label])
        for row in rows
        if row.latency and row.error
    ]
    if points:
        figures['latency'] = latency_figure(points)
    if any(stage.get('relative_error') is not None for run in runs for stage in run['stages']):
        teacher = next((row.error for row in rows if row.method == 'teacher'), None)
        drawn = [(student.label, run['stages'], colours[student.label]) for run in runs]
        figures['stages'] = stages_figure(drawn, None if teacher is None else 100 - teacher.mean)
    if any(row['kind'] == 'block' for row in plan):
        figures['plan'] = plan_figure(plan, 'acts', 'activations read')
    return figures


def _plan_cells(row: dict) -> dict[str, Any]:
    cells = [
        row['path'],
        row['source'] or NOTHING,
        row['target'] or NOTHING,
        *(arrow(row[m]) for m in MEASURES),
    ]
    return dict(cells=cells, kind=row['kind'])


def _stage_cells(run: dict) -> list[list[str]]:
    """Return one line of texts per stage."""

    def number(value: float | None, digits: str) -> str:
        return NOTHING if value is None else format(value, digits)

    return [
        [
            str(place),
            stage.get('name') or stage.get('kind') or NOTHING,
            number(stage.get('iters'), ','),
            number(stage.get('images'), ','),
            NOTHING if stage.get('seconds') is None else duration(stage['seconds']),
            number(stage.get('relative_error_start'), '.4g'),
            number(stage.get('relative_error'), '.4g'),
            number(stage.get('top1'), '.2f'),
        ]
        for place, stage in enumerate(run['stages'], start=1)
    ]


def _settings(
    results: Sequence[dict], rows: Sequence[ResultRow], command: str | Sequence[str] | None
) -> list[tuple[str, list[str]]]:
    """Return what the numbers were made with: a name and its values, each value once."""

    def distinct(values: Iterable[Any]) -> list[str]:
        return list(dict.fromkeys(str(v) for v in values if v not in (None, '', [], {})))

    def joined(field: str) -> list[str]:
        facts = (r.get(field) or {} for r in results)
        return distinct(', '.join(f'{k} {v}' for k, v in f.items() if v is not None) for f in facts)

    latencies = [row.latency for row in rows if row.latency]
    commands = [command] if isinstance(command, str) else list(command or ())
    settings = [
        ('command', distinct(commands)),
        ('config', distinct(r.get('config') for r in results)),
        (
            'data',
            distinct(f'{r["dataset"]}, {r["classes"]} classes, {r["val_images"]:,} test images' for r in results),
        ),
        ('data root', distinct(r.get('data_root') for r in results)),
        ('input', distinct(shape_text(r['input_shape']) for r in results if r.get('input_shape'))),
        ('seeds', [', '.join(distinct(r['seed'] for r in results))]),
        ('budget', [_budget(row) for row in rows if row.images]),
        ('machine', joined('machine')),
        ('versions', joined('versions')),
        ('latency', distinct(_conditions(latency) for latency in latencies)),
    ]
    return [(name, values) for name, values in settings if values]


def _budget(row: ResultRow) -> str:
    return f'{row.label}: {row.images.mean:,.0f} images, {duration(row.seconds.mean)} of training per run'


def _conditions(latency: Latency) -> str:
    plural = '' if latency.threads == 1 else 's'
    return (
        f'batch of {latency.batch_size}, {latency.device}, {latency.threads} thread{plural}, median of '
        f'{latency.repeats} rounds in which all networks take turns'
    )


def _notes(rows: Sequence[ResultRow], stages: bool) -> list[str]:
    """Return how the numbers of the table are to be read."""
    notes = ['Gap to teacher: top-1 error minus the teacher’s, in points; a plus is more error than the teacher’s.']
    if any(row.error and row.error.sd is not None for row in rows):
        notes.append('± is the sample standard deviation over the seeds.')
    conventions = {row.complexity.convention for row in rows if row.complexity}
    layers = {'cifar': 'convolutions', 'imagenet': 'convolutions and the classifier'}
    readers = {
        'cifar': 'convolutions and poolings other than the global one',
        'imagenet': 'convolutions, poolings and the classifier',
    }
    for convention in sorted(conventions):
        notes.append(
            f'Params and mults count the weights and multiplications of {layers[convention]} only, without '
            f'biases and BatchNorm; acts are the elements that {readers[convention]} read. All per image, '
            'counted by running the network.'
        )
    uncounted = sorted({name for row in rows if row.complexity for name in row.complexity.uncounted})
    if uncounted:
        notes.append(f'Run but not counted: {", ".join(uncounted)}.')
    if any(row.speed_up for row in rows):
        notes.append('Speed-up: the teacher’s time over the network’s, median of the rounds.')
    if stages:
        notes.append('Relative error of a stage: squared difference to the teacher’s output over its variance.')
    return notes
