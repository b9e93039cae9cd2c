"""Draw the figures of a report as inline SVG whose colours and fonts come from the page's style sheet."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite, log10
from typing import Any

from mmrecast.analysis.labels import NEAR, place_labels

SERIES = 6  # colours
SHAPES = 'os^vPX'
FEW = 4  # runs whose stages are drawn with a mark each
NAMED = 6  # points with their names beside them
# Stand-ins that matplotlib draws with; each is replaced by the CSS variable of its name.
_INK = {'ink': '#010203', 'muted': '#010204', 'grid': '#010205', 'paper': '#010206', 'quiet': '#010207'}
_INK |= {f's{i + 1}': f'#0102{16 + i:02x}' for i in range(SERIES)}
_STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmrecast',
    'text.parse_math': False,
    'font.size': 10,
    'axes.edgecolor': _INK['grid'],
    'axes.labelcolor': _INK['muted'],
    'axes.labelsize': 10,
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


@dataclass(frozen=True)
class Mark:
    """How a line of the table is drawn in every figure.

    Args:
        colour (int): 0 for the teacher, 1, 2, ... for the others; they begin again after ``SERIES``.
        shape (int): Of ``SHAPES``. Defaults to 0, a disc; the teacher is a diamond.
    """

    colour: int
    shape: int = 0

    @property
    def css(self) -> str:
        """str: The classes that draw it in the page's text."""
        return f'c{(self.colour - 1) % SERIES + 1} m{self.shape % len(SHAPES)}' if self.colour else 'c0'

    @property
    def ink(self) -> str:
        """str: The stand-in for its colour."""
        return _INK[f's{(self.colour - 1) % SERIES + 1}'] if self.colour else _INK['ink']

    def drawn(self, size: float) -> dict[str, Any]:
        """Return matplotlib's arguments for a point of so many points of width; large ones have a rim."""
        rim = dict(markeredgecolor=_INK['paper'], markeredgewidth=1) if size > 5 else dict(markeredgewidth=0)
        marker = SHAPES[self.shape % len(SHAPES)] if self.colour else 'D'
        return dict(marker=marker, color=self.ink, markersize=size, **rim)


@dataclass(frozen=True)
class Point:
    """A network in the figure of accuracy against latency.

    Args:
        label (str): Its name.
        ms (float): Median latency of a batch.
        top1 (float): In percent.
        mark (Mark): What it is drawn with.
        sd (float, optional): Of the top-1 accuracy over the seeds. Defaults to None.
    """

    label: str
    ms: float
    top1: float
    mark: Mark
    sd: float | None = None


def check_matplotlib() -> None:
    """Refuse to begin what needs plots.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("plots need matplotlib; install it with: pip install 'mmrecast[quickstart]'") from error


def latency_figure(panels: Sequence[tuple[int, Sequence[Point]]]) -> str:
    """Return top-1 accuracy against latency, one panel below the other for each batch size.

    Args:
        panels (Sequence[tuple[int, Sequence[Point]]]): Batch size and the networks measured at it. Of more than
            ``NAMED`` networks, only the teacher's name is written.

    Raises:
        ImportError: matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        drawn = []
        for axes, (size, points) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
            for point in points:
                if point.sd:
                    axes.errorbar(point.ms, point.top1, yerr=point.sd, color=point.mark.ink, linewidth=1.4, capsize=3)
                axes.plot(point.ms, point.top1, **point.mark.drawn(9))
            heights = [p.top1 for p in points]
            spread = max(max(heights) - min(heights), 0.5)
            axes.set_xlim(0, max(p.ms for p in points) * 1.12)
            axes.set_ylim(min(heights) - 0.22 * spread, max(heights) + 0.22 * spread)
            axes.set_xlabel('latency of one image, ms' if size == 1 else f'latency of a batch of {size}, ms')
            axes.set_ylabel('top-1, %')
            drawn.append((axes, points))
        figure.draw_without_rendering()  # the layout settles where the points are
        for axes, points in drawn:
            _name_points(axes, points if len(points) <= NAMED else [p for p in points if not p.mark.colour])

    return _svg(draw, (4.8, 2.6 * len(panels)), 'latency', 'Top-1 accuracy against latency')


def stages_figure(runs: Sequence[tuple[Sequence[dict], Mark]], teacher_top1: float | None = None) -> str:
    """Return relative error and top-1 after every stage, one above the other.

    Args:
        runs (Sequence[tuple]): (the run's ``stages``, what it is drawn with), one per run. Of many, only the lines
            are drawn.
        teacher_top1 (float, optional): Drawn as a dashed line. Defaults to None.

    Raises:
        ImportError: matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        from matplotlib.ticker import LogLocator

        upper, lower = figure.subplots(2, 1, sharex=True)
        values = []
        few = len(runs) <= FEW
        for stages, mark in runs:
            line = dict(linestyle='-', linewidth=1.6) | mark.drawn(4) if few else dict(color=mark.ink, linewidth=1.2)
            start = _series(stages, 'relative_error_start') if few else []
            end = _series(stages, 'relative_error')
            values += [v for _, v in start + end]
            upper.plot(*_columns(start), 'o', markerfacecolor='none', markeredgecolor=mark.ink, markersize=4)
            upper.plot(*_columns(end), **line)
            lower.plot(*_columns(_series(stages, 'top1')), **line)
        if values and min(values) > 0 and log10(max(values) / min(values)) > 1:
            upper.set_yscale('log', subs=())
            upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 300 else (1,)))
            upper.yaxis.set_major_formatter('{x:g}')
        elif values:
            upper.set_ylim(bottom=0)
        upper.set_ylabel('relative error')
        if few and any(_series(stages, 'relative_error_start') for stages, _ in runs):
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
        lower.set_xlim(0.3, max(len(stages) for stages, _ in runs) + 0.7)

    return _svg(draw, (4.8, 5.2), 'stages', 'Relative error and top-1 after each stage')


def plan_figure(rows: Sequence[dict], measure: str, title: str, name: str = 'plan') -> str:
    """Return one pair of bars per block of a plan: before, pale, and after, inside it.

    Args:
        rows (Sequence[dict]): From :func:`mmrecast.analysis.plan_table.plan_rows`.
        measure (str): ``'params'``, ``'mults'`` or ``'acts'``.
        title (str): What the vertical axis says.
        name (str): Tells it from the page's other figures. Defaults to ``'plan'``.

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

    return _svg(draw, (10.4, 2.6), name, f'{title} per block before and after')


def _svg(draw: Callable[[Any], None], size: tuple[float, float], name: str, title: str) -> str:
    """Draw on a fresh figure and return it as one ``<svg>`` element that inherits the page's colours."""
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

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


def _name_points(axes: Any, points: Sequence[Point]) -> None:
    """Write the names beside the points; a thin line leads to a name that stands further off."""
    unit = 72 / axes.figure.dpi  # pixels → points
    where = [tuple(axes.transData.transform((p.ms, p.top1)) * unit) for p in points]
    sizes = [(5.9 * len(p.label) + 2, 12.5) for p in points]
    box = axes.get_window_extent()
    centres = place_labels(where, sizes, tuple(side * unit for side in box.extents))
    for point, (x, y), (_, height), (cx, cy) in zip(points, where, sizes, centres, strict=True):
        ink = point.mark.ink
        far = abs(cy - y) > height + NEAR
        axes.annotate(
            point.label, (point.ms, point.top1), xytext=(cx - x, cy - y), textcoords='offset points', ha='center',
            va='center', color=ink, fontweight='bold', in_layout=False,
            arrowprops=dict(arrowstyle='-', color=ink, linewidth=0.8, shrinkA=0, shrinkB=5) if far else None,
        )  # fmt: skip


def _series(stages: Sequence[dict], field: str) -> list[tuple[int, float]]:
    """Return (stage from 1 on, value) where there is a finite value."""
    pairs = ((number, stage.get(field)) for number, stage in enumerate(stages, start=1))
    return [(number, value) for number, value in pairs if value is not None and isfinite(value)]


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [p[0] for p in pairs], [p[1] for p in pairs]
