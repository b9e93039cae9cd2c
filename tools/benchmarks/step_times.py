"""A hook that keeps the images per second of every stage of a run, and what it asks of the GPU."""

import time
from pathlib import Path

import torch
from gpu_use import GpuUse
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmrecast.engine.batches import batch_size
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import write_json

FILE = 'step_times.json'


@HOOKS.register_module()
class StepTimes(Hook):
    """Write ``step_times.json`` in the work dir, for every stage its ``stage`` (name), ``kind``, ``iters`` and rates.

    These are ``images_per_second``, ``gpu_utilisation`` (per cent) and ``peak_bytes`` (allocated on the GPU) of the
    loop with its data: not of the beginning of a stage, its first iterations, which warm up, or its validation. They
    are None where a stage has no more iterations than those, the last two without a GPU, too.

    Args:
        skip (int): How many iterations warm up. Defaults to 2.
    """

    priority = 'VERY_HIGH'  # what other hooks do behind an iteration belongs to the next one

    def __init__(self, skip: int = 2) -> None:
        self.skip, self.records, self._done, self._images = skip, [], 0, 0
        self._begun = self._seconds = 0.0
        self._use, self._asked = GpuUse(), {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count an iteration."""
        self._done += 1
        if self._done == self.skip:
            self._use.begin()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            self._begun = now()
        elif self._done > self.skip:
            self._images += batch_size(data_batch) * get_world_size()

    def after_train_epoch(self, runner) -> None:
        """Note the time: this may have been the stage's last epoch."""
        if self._images:
            self._seconds = now() - self._begun
            peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
            self._asked = dict(gpu_utilisation=self._use.mean(), peak_bytes=peak)

    def after_stage(self, runner, record: dict) -> None:
        """Keep the stage's rate."""
        nothing = dict(images_per_second=None, gpu_utilisation=None, peak_bytes=None)
        found = nothing | self._asked
        if self._images:
            found['images_per_second'] = round(self._images / self._seconds, 2)
        self.records.append(dict(stage=record['name'], kind=record['kind'], iters=record['iters']) | found)
        self._done, self._images, self._asked = 0, 0, {}
        if is_main_process():
            write_json(self.records, Path(runner.work_dir, FILE))

    def after_train(self, runner) -> None:
        """Ask the GPU no more."""
        self._use.end()


def now() -> float:
    """Return the time in seconds at which the GPU, if any, has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
