"""How the benchmarks' figures look and are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'mmrecast', 'text.parse_math': False, 'font.size': 9}


@contextmanager
def pair_of_axes(out: str | Path, size: tuple[float, float] = (10, 4)) -> Iterator[tuple[Any, Any]]:
    """Give two axes side by side to draw on, and write the figure on leaving.

    Args:
        out (str | Path): The figure; its ending says the format.
        size (tuple[float, float]): Width and height in inches. Defaults to (10, 4).
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = Path(out)
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout='constrained')
        both = figure.subplots(1, 2)
        yield tuple(both)
        for axes in both:
            axes.spines[['top', 'right']].set_visible(False)
        undated = {'.svg': {'Date': None}, '.pdf': {'CreationDate': None}}
        figure.savefig(out, dpi=200, metadata=undated.get(out.suffix))


def plain_numbers(axes: Any) -> None:
    """Write numbers on logarithmic axes as they are, at powers of ten alone."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter('{x:g}')
        axis.set_minor_formatter('')
