"""Say in sentences and single figures what a recasting gained and cost, from the numbers alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from mmrecast.analysis.numbers import compared, duration, milliseconds, short, times
from mmrecast.analysis.results import ResultRow


@dataclass(frozen=True)
class Tile:
    """One figure of the report's head: what it is, before and after, and what that amounts to."""

    name: str
    before: str
    after: str
    change: str


def main_row(rows: Sequence[ResultRow], main: str | None = None) -> ResultRow:
    """Return the line a report is about: ``main``, else the first ``recasting``, else the first student.

    Raises:
        KeyError: ``main`` is not one of the lines.
    """
    students = [row for row in rows if row.method != 'teacher']
    if main is not None:
        chosen = next((row for row in students if main in (row.label, row.method)), None)
        if chosen is None:
            raise KeyError(f'no line {main!r} to report on; there are {", ".join(row.label for row in students)}')
        return chosen
    return next((row for row in students if row.method == 'recasting'), students[0])


def headline(
    rows: Sequence[ResultRow],
    plan: Sequence[dict] = (),
    main: str | None = None,
    teacher_name: str | None = None,
    student_name: str | None = None,
) -> str:
    """Return the sentence that says what became of the teacher, what it gained and what it cost.

    Args:
        rows (Sequence[ResultRow]): From :func:`mmrecast.analysis.results.table_rows`.
        plan (Sequence[dict]): From :func:`mmrecast.analysis.plan_table.plan_rows`. Defaults to none.
        main (str, optional): The line it is about. Defaults to None: see :func:`main_row`.
        teacher_name (str, optional): Such as ``'ResNet-56'``. Defaults to None: "The teacher".
        student_name (str, optional): Such as ``'a plain convolutional network'``. Defaults to None: what the
            plan says.
    """
    student = main_row(rows, main)
    teacher = next((row for row in rows if row.method == 'teacher'), None)
    facts = []
    if teacher and teacher.complexity and student.complexity:
        before, after = teacher.complexity.params, student.complexity.params
        facts.append(compared(before, after, 'fewer weights', 'more weights'))
    if student.speed_up:
        facts.append(compared(student.speed_up, 1, 'faster', 'slower'))
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
    """Return the sentence that sets the main line beside the other methods; empty if there are none."""
    student = main_row(rows, main)
    others = [row for row in rows if row.method != 'teacher' and row is not student and row.error]
    if not others or not student.error:
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
    teacher = next((row for row in rows if row.method == 'teacher'), None)
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
    if teacher and teacher.latency and student.latency:
        before, after = (f'{milliseconds(row.latency.ms_per_image)} ms' for row in (teacher, student))
        faster = compared(student.speed_up, 1, 'faster', 'slower') or times(student.speed_up)
        found.append(Tile('latency per image', before, after, faster))
    return found


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
