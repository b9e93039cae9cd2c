"""What a run under `parallel_blocks.py` needs beside its config: random images, and a clock."""

import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from step_turns import ImagesToTime

from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import write_json

__all__ = ['BlockClock', 'ImagesToTime']
CLOCK = 'clock.json'


@HOOKS.register_module()
class BlockClock(Hook):
    """Keep in the work dir how long it took from the beginning of training until all blocks were joined."""

    def before_train(self, runner) -> None:
        """Start."""
        self._start = time.perf_counter()

    def after_stage(self, runner, record: dict) -> None:
        """Stop at the first record: there are some when the blocks are joined, not before."""
        if record['index'] == 0 and is_main_process():
            seconds = time.perf_counter() - self._start
            write_json(dict(seconds=round(seconds, 3)), Path(runner.work_dir, CLOCK))
