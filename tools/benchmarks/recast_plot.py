"""Draw what `gpu_recast.py` measures."""

from collections.abc import Sequence
from pathlib import Path

from figures import pair_of_axes


def draw_runs(runs: Sequence[dict], out: str | Path) -> None:
    """Draw every run's relative error and images per second, stage by stage.

    Args:
        runs (Sequence[dict]): From ``recast_forms.run_form``; those that were left out are not drawn.
        out (str | Path): The figure; its ending says the format.
    """
    with pair_of_axes(out) as both:
        for axes, key, label in zip(both, ('relative_error', 'images_per_second'),
                                    ('relative error', 'images per second'), strict=True):  # fmt: skip
            for run in runs:
                points = [(i, stage[key]) for i, stage in enumerate(run.get('stages', ()), 1) if stage[key] is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), marker='.', label=run['name'])
            axes.set(xlabel='stage (the last is fine-tuning)', ylabel=label)
            axes.set_ylim(0, None)
        if both[0].has_data():
            both[0].legend(frameon=False, fontsize=8)
