"""Say in sentences and single figures what a recasting gained and cost, from the numbers alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from mmrecast.analysis.numbers import compared, duration, milliseconds, short, times
from mmrecast.analysis.rows import ResultRow

FEW = 4  # lines that a sentence may name


@dataclass(frozen=True)
class Tile:
    """One figure of the report's head: what it is, before and after, and what that amounts to."""

    name: str
    before: str
    after: str
    change: str


def main_row(rows: Sequence[ResultRow], main: str | None = None) -> ResultRow:
    """Return the line a report is about: ``main``, else the first ``recasting``, else the first student.

    Args:
        rows (Sequence[ResultRow]): From :func:`mmrecast.analysis.rows.table_rows`.
        main (str, optional): Its label or method, in any case of letters. Defaults to None.

    Raises:
        KeyError: ``main`` is not one of the lines.
    """
    students = [row for row in rows if not row.is_teacher]
    wanted = (main or 'recasting').lower()
    chosen = next((row for row in students if wanted in (row.label.lower(), row.method.lower())), None)
    if chosen is None and main is not None:
        raise KeyError(f'no line {main!r} to report on; there are {", ".join(row.label for row in students)}')
    return chosen or students[0]


def headline(
    rows: Sequence[ResultRow],
    plan: Sequence[dict] = (),
    main: str | None = None,
    teacher_name: str | None = None,
    student_name: str | None = None,
) -> str:
    """Return the sentence that says what became of the teacher, what it gained and what it cost.

    Args:
        rows (Sequence[ResultRow]): From :func:`mmrecast.analysis.rows.table_rows`.
        plan (Sequence[dict]): From :func:`mmrecast.analysis.plan_table.plan_rows`. Defaults to none.
        main (str, optional): The line it is about. Defaults to None: see :func:`main_row`.
        teacher_name (str, optional): Such as ``'ResNet-56'``. Defaults to None: "The teacher".
        student_name (str, optional): Such as ``'a plain convolutional network'``. Defaults to None: what the
            plan says.
    """
    student = main_row(rows, main)
    teacher = next((row for row in rows if row.is_teacher), None)
    facts = []
    if teacher and teacher.complexity and student.complexity:
        before, after = teacher.complexity.params, student.complexity.params
        facts.append(compared(before, after, 'fewer weights', 'more weights'))
    facts.append(_faster(student))
    if student.gap:
        facts.append(_points(student.gap.mean, 'than its teacher'))
    elif student.error:
        facts.append(f'{student.error.text()} % error')
    said = ', '.join(fact for fact in facts if fact)
    subject = teacher_name or 'The teacher'
    changes = _changes(plan)
    if student_name:
        start = f'{subject} became {student_name}'
    elif changes:
        start = f'{subject} was recast ({changes})'
    else:
        start = student.label
    return f'{start}: {said}.' if said else f'{start}.'


def comparison(rows: Sequence[ResultRow], main: str | None = None) -> str:
    """Return the sentence that sets the main line beside the other methods; empty for none and for many."""
    student = main_row(rows, main)
    others = [row for row in rows if not row.is_teacher and row is not student and row.error]
    if not 0 < len(others) <= FEW or not student.error:
        return ''
    said = []
    for row in others:
        words = _points(row.error.mean - student.error.mean, '')
        if abs(row.images.mean - student.images.mean) > 0.001 * student.images.mean:
            words += f' after {row.images.mean:,.0f} images'
        said.append(f'{row.label} has {words}, in {duration(row.seconds.mean)}')
    own = f'{student.label} saw {student.images.mean:,.0f} training images in {duration(student.seconds.mean)}'
    same = not any(' after ' in words for words in said)
    joint = 'with as many images' if same else 'compared with it'
    return f'{own}; {joint}, {"; ".join(said)}.'


def caution(rows: Sequence[ResultRow], val_images: int, main: str | None = None) -> str:
    """Return what should be kept in mind about the error: the runs behind it and the size of the test set."""
    student = main_row(rows, main)
    runs = 'from one run' if student.runs == 1 else f'means over {student.runs} runs'
    text = f'The figures of {student.label} are {runs}. '
    if val_images and student.error:
        rate = min(max(student.error.mean / 100, 0), 1)
        spread = 100 * sqrt(rate * (1 - rate) / val_images)
        text += (
            f'Tested on {val_images:,} images: one image is {100 / val_images:.2f} points, '
            f'and the standard error of the measured error rate is {spread:.2f} points.'
        )
    return text.strip()


def tiles(rows: Sequence[ResultRow], main: str | None = None) -> list[Tile]:
    """Return the figures of the main line beside its teacher's: error, weights, mults, acts, latency."""
    student = main_row(rows, main)
    teacher = next((row for row in rows if row.is_teacher), None)
    found = []
    if student.error and teacher and teacher.error:
        change = f'{student.gap.text(sign=True)} points' if student.gap else ''
        found.append(Tile('top-1 error', f'{teacher.error.mean:.2f} %', f'{student.error.mean:.2f} %', change))
    elif student.error:
        found.append(Tile('top-1 error', '', f'{student.error.mean:.2f} %', ''))
    if teacher and teacher.complexity and student.complexity:
        for measure, name in (
            ('params', 'weights'),
            ('mults', 'multiplications'),
            ('acts', 'activations read'),
        ):
            before, after = getattr(teacher.complexity, measure), getattr(student.complexity, measure)
            change = compared(before, after, 'fewer', 'more') or ''
            found.append(Tile(name, short(before), short(after), change))
    for size, factor in student.speed_ups.items():
        before, after = (f'{milliseconds(row.latencies[size].median_ms)} ms' for row in (teacher, student))
        faster = compared(factor, 1, 'faster', 'slower') or times(factor)
        found.append(Tile(f'latency, batch {size}', before, after, faster))
    return found


def _faster(row: ResultRow) -> str | None:
    """Return how much faster than the teacher a network is, at every batch size measured."""
    said = [(size, compared(factor, 1, 'faster', 'slower')) for size, factor in row.speed_ups.items()]
    if len(said) == 1:
        return said[0][1]
    return ' and '.join(f'{words} at batch {size}' for size, words in said if words) or None


def _points(gap: float, than: str) -> str:
    """Return a difference of errors in words."""
    if abs(gap) < 0.005:
        return f'the same error {than.replace("than", "as")}'.rstrip()
    return f'{abs(gap):.2f} points {"more" if gap > 0 else "less"} error {than}'.rstrip()


def _changes(plan: Sequence[dict]) -> str:
    """Return ``'27 × basic → ConvBlock'`` for the blocks that were replaced."""
    kinds = Counter(
        f'{row["source"].split()[0]} → {row["target"].split()[0]}' for row in plan if row['action'] == 'recast'
    )
    return ', '.join(f'{number} × {kind}' for kind, number in kinds.items())
