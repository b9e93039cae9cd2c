"""Draw what `recast_scale.py` measures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import pair_of_axes, plain_numbers

AXES = (('depth', 'deeper', 'o'), ('width', 'wider', 's'), ('size', 'larger images', '^'))


def draw_scale(runs: Sequence[Any], line: tuple[float, float] | None, out: str | Path) -> None:
    """Draw seconds against FLOPs on logarithmic axes with the fitted line, and memory stage by stage.

    Args:
        runs (Sequence[RunCost]): The smallest network first.
        line (tuple[float, float], optional): Slope and offset of log10(seconds) over log10(teraflops).
        out (str | Path): The figure; its ending says the format.
    """
    base = runs[0]
    with pair_of_axes(out) as (left, right):
        if line is not None:
            ends = np.array([min(r.teraflops for r in runs), max(r.teraflops for r in runs)])
            label = f'fit: seconds ~ FLOPs^{line[0]:.2f}'
            left.plot(ends, 10 ** line[1] * ends ** line[0], color='0.6', label=label)
        for name, label, mark in AXES:
            others = [other for other, _, _ in AXES if other != name]
            own = [r for r in runs if all(getattr(r, other) == getattr(base, other) for other in others)]
            if len(own) > 1:
                left.plot([r.teraflops for r in own], [r.seconds for r in own], mark, label=label)
        for run in runs:
            left.annotate(run.name, (run.teraflops, run.seconds), (5, -9), textcoords='offset points', fontsize=7)
        left.set(xscale='log', yscale='log', xlabel='TFLOPs of the steps of a run', ylabel='seconds of a run')
        plain_numbers(left)
        left.legend(frameon=False, loc='upper left')
        for run in runs:
            blocks = run.stages[:-1]
            at = [i for i, stage in enumerate(blocks) if stage.memory is not None]
            share = [blocks[i].memory.total / blocks[i].whole_memory.total for i in at]
            right.plot([i / max(len(blocks) - 1, 1) for i in at], share, marker='.', label=run.name)
        right.set(xlabel='stage (0: first block, 1: last)', ylabel="memory, share of the whole networks' step")
        right.set_ylim(0, None)
        right.legend(frameon=False, fontsize=7)
