"""Keep how a search for widths goes: probabilities in a file, expected widths as scalars, the choice in the log."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmrecast.engine.disk import going_on
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import write_json

WIDTHS = 'widths.json'


@HOOKS.register_module()
class WidthHook(Hook):
    """Keep ``widths.json`` in the work dir while an algorithm chooses widths, and tell what it chose.

    The file is a list of records ``dict(stage, epoch, iter, groups)`` with the algorithm's ``scheduled`` values beside
    them (``tau``, ``gamma``): one at the beginning of a stage, every ``interval`` epochs and at its end. ``stage``
    counts from 0, ``epoch`` and ``iter`` over all stages; ``groups`` is the algorithm's ``width_distribution()``, per
    group of layers ``dict(widths, divisors, probabilities, layers)``; divisors that it leaves out are those of the
    widest candidate. A resumed run goes on with the file.

    Args:
        interval (int): Epochs between two records. Defaults to 1.

    Raises:
        ValueError: ``interval`` is no whole number of at least 1.
    """

    def __init__(self, interval: int = 1) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval of the WidthHook must be a whole number of at least 1, got {interval!r}')
        self.interval = interval
        self._records: list[dict] = []

    def check(self, model: Any) -> None:
        """Refuse an algorithm that chooses no widths.

        Raises:
            ValueError: It has no ``width_distribution``.
        """
        if not hasattr(model, 'width_distribution'):
            name = type(model).__name__
            raise ValueError(f'WidthHook is for algorithms that choose widths, {name} does not: leave the hook out')

    def before_train(self, runner) -> None:
        """Go on with the records up to where the run stands.

        Raises:
            ValueError: The file of a run that goes on is not readable.
        """
        here, path = (runner.train_loop.stage_index, runner.iter), Path(runner.work_dir, WIDTHS)
        self._records = []
        if here != (0, 0) and path.is_file() and is_main_process():
            try:
                self._records = [one for one in json.loads(path.read_text()) if (one['stage'], one['iter']) <= here]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f'{path} is damaged ({error}): move it away to go on without it') from error

    def before_train_epoch(self, runner) -> None:
        """Keep the distribution at the beginning of a stage."""
        loop = runner.train_loop
        if not loop.state()['stage_iter']:
            self._keep(runner, loop.stage_index)

    def at_position(self, runner, kind: str) -> None:
        """Keep the distribution at the end of an epoch, before a checkpoint is written there."""
        loop = runner.train_loop
        if kind == 'epoch' and loop.stage_epoch % self.interval == 0:
            self._keep(runner, loop.stage_index)

    def after_stage(self, runner, record: dict) -> None:
        """Keep the distribution at the end of a stage and say what it chose."""
        groups = self._keep(runner, record['index'])
        if groups:
            chosen = Counter(chosen_divisor(group) for group in groups.values())
            parts = [f'divisor {divisor:g}: {count}' for divisor, count in sorted(chosen.items())]
            runner.logger.info(f'{record["name"]}: widths of {len(groups)} groups, {", ".join(parts)}')

    def _keep(self, runner, stage: int) -> dict[str, dict] | None:
        """Keep the distribution now, in the place of what was kept at the same iteration."""
        groups = runner.bare_model.width_distribution()
        if groups is None:
            return None
        groups = {name: dict(divisors=_divisors(group['widths'])) | group for name, group in groups.items()}
        if not is_main_process():
            return groups
        scheduled, here = dict(runner.bare_model.scheduled), (stage, runner.iter)
        self._records = [one for one in self._records if (one['stage'], one['iter']) != here]
        self._records.append(dict(stage=stage, epoch=runner.epoch, iter=runner.iter, **scheduled, groups=groups))
        with going_on(runner):
            write_json(self._records, Path(runner.work_dir, WIDTHS))
        expected = {f'widths/{name}': expected_width(group) for name, group in groups.items()}
        runner.visualizer.add_scalars(expected, step=runner.iter)
        return groups


def _divisors(widths: list[int]) -> list[float]:
    """Return what the widest of the candidates is divided by, for groups that name no divisors."""
    return [max(widths) / width for width in widths]


def expected_width(group: dict) -> float:
    """Return the mean of a group's widths (channels), weighted by their probabilities."""
    return sum(width * p for width, p in zip(group['widths'], group['probabilities'], strict=True))


def chosen_divisor(group: dict) -> float:
    """Return the divisor of a group's most probable width."""
    position = max(range(len(group['widths'])), key=lambda i: group['probabilities'][i])
    return group['divisors'][position]
