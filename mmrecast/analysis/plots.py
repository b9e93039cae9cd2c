"""Draw the figures of a report as inline SVG whose colours and fonts come from the page's style sheet."""

import re
from collections.abc import Callable, Sequence
from io import StringIO
from math import isfinite, log10
from typing import Any

SERIES = 6
# Stand-ins that matplotlib draws with; each is replaced by the CSS variable of its name.
_INK = {'ink': '#010203', 'muted': '#010204', 'grid': '#010205', 'paper': '#010206', 'quiet': '#010207'}
_INK |= {f's{i + 1}': f'#0102{16 + i:02x}' for i in range(SERIES)}
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmrecast',
    'text.parse_math': False,
    'font.size': 9.5,
    'axes.edgecolor': _INK['grid'],
    'axes.labelcolor': _INK['muted'],
    'axes.labelsize': 9.5,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.unicode_minus': True,
    'axes.grid': True,
    'grid.color': _INK['grid'],
    'grid.linewidth': 0.7,
    'text.color': _INK['ink'],
    'xtick.color': _INK['grid'],
    'ytick.color': _INK['grid'],
    'xtick.labelcolor': _INK['muted'],
    'ytick.labelcolor': _INK['muted'],
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
}


def latency_figure(points: Sequence[tuple[str, float, float, float | None, int]]) -> str:
    """Return the scatter of error against latency.

    Args:
        points (Sequence[tuple]): (label, ms per image, top-1 error in percent, its sd or None, colour: 0 for
            the teacher, 1 to ``SERIES`` for the others).

    Raises:
        ImportError: matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for _, ms, error, sd, colour in points:
            ink = _colour(colour)
            if sd:
                axes.errorbar(ms, error, yerr=sd, color=ink, linewidth=1.4, capsize=3)
            marker = 'D' if colour == 0 else 'o'
            axes.plot(ms, error, marker, color=ink, markersize=8, markeredgecolor=_INK['paper'], markeredgewidth=1.5)
        widest = max(p[1] for p in points)
        heights = [p[2] for p in points]
        spread = max(max(heights) - min(heights), 0.5)
        axes.set_xlim(0, widest * 1.12)
        axes.set_ylim(min(heights) - 0.18 * spread, max(heights) + 0.18 * spread)
        for (label, ms, _, _, colour), height in zip(points, _apart(heights, 0.09 * spread * 1.36), strict=True):
            left = ms > 0.6 * widest
            axes.annotate(
                label,
                (ms, height),
                xytext=(-9 if left else 9, 0),
                textcoords='offset points',
                ha='right' if left else 'left',
                va='center',
                color=_colour(colour),
                fontweight='bold',
            )
        axes.set_xlabel('latency, ms per image')
        axes.set_ylabel('top-1 error, %')

    return _svg(draw, (5.2, 4.2), 'latency', 'Top-1 error against latency')


def stages_figure(runs: Sequence[tuple[str, Sequence[dict], int]], teacher_top1: float | None = None) -> str:
    """Return relative error and top-1 after every stage, one above the other.

    Args:
        runs (Sequence[tuple]): (label, the run's ``stages``, colour number), one per run.
        teacher_top1 (float, optional): Drawn as a dashed line. Defaults to None.

    Raises:
        ImportError: matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        values = []
        for _, stages, colour in runs:
            ink = _colour(colour)
            start = _series(stages, 'relative_error_start')
            end = _series(stages, 'relative_error')
            values += [v for _, v in start + end]
            upper.plot(*_columns(start), 'o', markerfacecolor='none', markeredgecolor=ink, markersize=4)
            upper.plot(*_columns(end), '-o', color=ink, markersize=4, linewidth=1.6)
            lower.plot(*_columns(_series(stages, 'top1')), '-o', color=ink, markersize=4, linewidth=1.6)
        if values and min(values) > 0 and log10(max(values) / min(values)) > 1:
            upper.set_yscale('log')
            upper.yaxis.set_major_formatter('{x:g}')
        elif values:
            upper.set_ylim(bottom=0)
        upper.set_ylabel('relative error')
        if any(_series(stages, 'relative_error_start') for _, stages, _ in runs):
            upper.set_title('○ before a stage   ● after it', loc='left', color=_INK['muted'], fontsize=9)
        if teacher_top1 is not None:
            lower.axhline(teacher_top1, color=_INK['muted'], linewidth=1.2, linestyle=(0, (4, 3)))
            lower.annotate(
                'teacher', (1, teacher_top1), xycoords=('axes fraction', 'data'), xytext=(0, 3),
                textcoords='offset points', ha='right', va='bottom', color=_INK['muted'],
            )  # fmt: skip
            lower.margins(y=0.16)
        lower.set_ylabel('top-1, %')
        lower.set_xlabel('stage')
        lower.xaxis.get_major_locator().set_params(integer=True)
        lower.set_xlim(0.3, max(len(stages) for _, stages, _ in runs) + 0.7)

    return _svg(draw, (5.2, 4.2), 'stages', 'Relative error and top-1 after each stage')


def plan_figure(rows: Sequence[dict], measure: str, title: str) -> str:
    """Return one pair of bars per block of a plan: before, pale, and after, inside it.

    Args:
        rows (Sequence[dict]): From :func:`mmrecast.analysis.plan_table.plan_rows`.
        measure (str): ``'params'``, ``'mults'`` or ``'acts'``.
        title (str): What the vertical axis says.

    Raises:
        ImportError: matplotlib is not installed.
    """
    blocks = [row for row in rows if row['kind'] == 'block']

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        places = range(1, len(blocks) + 1)
        top = max(max(row[measure]) for row in blocks)
        scale, unit = next(((s, u) for s, u in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')) if top >= s), (1, ''))
        before, after = ([row[measure][i] / scale for row in blocks] for i in (0, 1))
        axes.bar(places, before, width=0.78, color=_INK['quiet'])
        axes.bar(places, after, width=0.46, color=_INK['s1'])
        axes.grid(axis='x', visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0.3, len(blocks) + 0.7)
        axes.set_xlabel('block, in the order of the table')
        axes.set_ylabel(f'{title}, {unit}' if unit else title)

    return _svg(draw, (10.4, 2.6), f'plan-{measure}', f'{title} per block before and after')


def _svg(draw: Callable[[Any], None], size: tuple[float, float], name: str, title: str) -> str:
    """Draw on a fresh figure and return it as one ``<svg>`` element that inherits the page's colours."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib; install it with: pip install 'mmrecast[quickstart]'") from error
    out = StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout='constrained')
        FigureCanvasSVG(figure)
        draw(figure)
        for axes in figure.axes:
            axes.tick_params(length=0)
        nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        figure.savefig(out, format='svg', metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'font: ([\w ]*?)([\d.]+px) [^;"]*', r'font: \1\2 var(--font)', svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf'\g<1>{name}-', svg)
    for variable, colour in _INK.items():
        svg = svg.replace(colour, f'var(--{variable})')
    return re.sub(r'<svg ', f'<svg role="img" aria-label="{title}" ', svg, count=1)


def _colour(number: int) -> str:
    return _INK['ink'] if number == 0 else _INK[f's{(number - 1) % SERIES + 1}']


def _series(stages: Sequence[dict], field: str) -> list[tuple[int, float]]:
    """Return (stage from 1 on, value) where there is a finite value."""
    pairs = ((number, stage.get(field)) for number, stage in enumerate(stages, start=1))
    return [(number, value) for number, value in pairs if value is not None and isfinite(value)]


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [p[0] for p in pairs], [p[1] for p in pairs]


def _apart(heights: Sequence[float], distance: float) -> list[float]:
    """Push heights closer than ``distance`` apart, each as far as its neighbour, keeping their order."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = list(heights)
    for _ in range(20 * len(heights)):
        for below, above in zip(order, order[1:], strict=False):
            lack = max(distance - (moved[above] - moved[below]), 0) / 2
            moved[below] -= lack
            moved[above] += lack
    return moved
