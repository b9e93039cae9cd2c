"""A hook that keeps the images per second of every stage of a run."""

import time
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmrecast.engine.batches import batch_size
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import write_json

FILE = 'step_times.json'


@HOOKS.register_module()
class StepTimes(Hook):
    """Write ``step_times.json`` in the work dir: ``dict(stage, kind, iters, images_per_second)`` for every stage.

    What is measured is the loop with its data: not the beginning of a stage, its first iterations, which warm up, or
    its validation. The rate is None where a stage has no more iterations than those.

    Args:
        skip (int): How many iterations warm up. Defaults to 2.
    """

    priority = 'VERY_HIGH'  # what other hooks do behind an iteration belongs to the next one

    def __init__(self, skip: int = 2) -> None:
        self.skip, self.records, self._done, self._images = skip, [], 0, 0
        self._begun = self._seconds = 0.0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count an iteration."""
        self._done += 1
        if self._done == self.skip:
            self._begun = now()
        elif self._done > self.skip:
            self._images += batch_size(data_batch) * get_world_size()

    def after_train_epoch(self, runner) -> None:
        """Note the time: this may have been the stage's last epoch."""
        if self._images:
            self._seconds = now() - self._begun

    def after_stage(self, runner, record: dict) -> None:
        """Keep the stage's rate."""
        rate = round(self._images / self._seconds, 2) if self._images else None
        self.records.append({key: record[key] for key in ('kind', 'iters')} | dict(stage=record['name']))
        self.records[-1] |= dict(images_per_second=rate)
        self._done = self._images = 0
        if is_main_process():
            write_json(self.records, Path(runner.work_dir, FILE))


def now() -> float:
    """Return the time in seconds at which the GPU, if any, has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
