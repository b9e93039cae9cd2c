"""Draw the frontier of plans: what is lost against the latency, and what is left of the accuracy."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmrecast.planning.assembled import Assembled
from mmrecast.planning.choice import Choice


def draw_frontier(
    points: Sequence[tuple[float, float, Choice]],
    teacher_ms: float,
    path: str | Path,
    beside: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    real: Mapping[str, Sequence[Assembled]] = MappingProxyType({}),
    teacher_top1: float | None = None,
) -> None:
    """Draw predicted loss against predicted latency; where plans were put together, real ones and accuracy, too.

    Args:
        points (Sequence[tuple]): (milliseconds, nats per image, choice) of each plan.
        teacher_ms (float): Of the teacher, which loses nothing.
        path (str | Path): The figure, of a type that matplotlib writes (.svg, .png).
        beside (Mapping): (milliseconds, nats per image) of other recipes by their names. Defaults to none.
        real (Mapping): What was put together by its closed forms: 'plans', and other recipes by their names. Defaults
            to none: no accuracy is drawn.
        teacher_top1 (float, optional): The teacher's accuracy in per cent. Defaults to None: not drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10 if real else 6, 4.5), layout='constrained')
    axes, *more = figure.subplots(1, 2 if real else 1, squeeze=False)[0]
    markers = dict(zip(beside, cycle('sv^<>px'), strict=False))
    ranked = sorted((ms, loss) for ms, loss, _ in points)
    axes.plot([ms for ms, _ in ranked], [loss for _, loss in ranked], 'o-', color='C0', label='plans, predicted')
    axes.plot([teacher_ms], [0], 'D', color='0.3', label='teacher')
    for i, (name, (ms, loss)) in enumerate(beside.items(), 1):
        axes.plot([ms], [loss], markers[name], color=f'C{i}', label=name)
    axes.set(xlabel='latency, ms', ylabel='loss, nats per image')
    for own in more:
        if teacher_top1 is not None:
            own.plot([teacher_ms], [teacher_top1], 'D', color='0.3')
        own.set(xlabel='latency, ms', ylabel='top-1, %')
    for i, (name, found) in enumerate(real.items()):
        look: dict[str, Any] = dict(marker=markers.get(name, 'o'), color=f'C{i}', fillstyle='none', linestyle='none')
        ms = [one.ms for one in found]
        axes.plot(ms, [one.loss for one in found], label=f'{name}, put together', **look)
        for own in more:
            own.plot(ms, [one.top1 for one in found], **look)
    for own in (axes, *more):
        own.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=2)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
