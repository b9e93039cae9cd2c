"""Draw the frontier of plans: what is lost against the latency."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

from mmrecast.planning.choice import Choice


def draw_frontier(
    points: Sequence[tuple[float, float, Choice]],
    teacher_ms: float,
    path: str | Path,
    beside: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Draw predicted loss against predicted latency.

    Args:
        points (Sequence[tuple]): (milliseconds, nats per image, choice) of each plan.
        teacher_ms (float): Of the teacher, which loses nothing.
        path (str | Path): The figure, of a type that matplotlib writes (.svg, .png).
        beside (Mapping): (milliseconds, nats per image) of other recipes by their names. Defaults to none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    ranked = sorted((ms, loss) for ms, loss, _ in points)
    axes.plot([ms for ms, _ in ranked], [loss for _, loss in ranked], 'o-', label='plans')
    axes.plot([teacher_ms], [0], 'D', label='teacher')
    for (name, (ms, loss)), marker in zip(beside.items(), cycle('sv^<>px'), strict=False):
        axes.plot([ms], [loss], marker, label=name)
    axes.set(xlabel='predicted latency, ms', ylabel='predicted loss, nats per image')
    axes.grid(alpha=0.3)
    axes.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
