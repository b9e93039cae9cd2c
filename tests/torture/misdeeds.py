"""What one process of several does wrong: hooks and data sets that configs name, for attacks on the others."""

import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as torch_dist
from mmengine.hooks import Hook
from torch.utils.data import get_worker_info

from mmrecast.datasets import Digits
from mmrecast.registry import DATASETS, HOOKS


def do(deed: str, note: str) -> None:
    """Be killed, stop, sleep for ever or fail; ``note`` is a file that says when."""
    Path(note).write_text(repr(time.time()))
    if deed == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == 'stop':
        os.kill(os.getpid(), signal.SIGSTOP)
    elif deed == 'hang':
        while True:
            time.sleep(3600)
    elif deed.startswith('pause'):
        time.sleep(float(deed.removeprefix('pause')))
    elif deed.startswith('work'):
        end = time.time() + float(deed.removeprefix('work'))
        while time.time() < end:
            torch.ones(100, 100).sum()  # nothing random: that would count
    else:
        raise ValueError(deed)


@HOOKS.register_module()
class Misdeed(Hook):
    """Let one process do something at a moment of the run.

    Args:
        deed (str): See :func:`do`.
        at (str): 'iter', 'stage' (behind the checkpoint of the n-th), 'forward' (within the n-th step), 'barrier' (in
            the place of the n-th checkpoint's), 'apart' (the n-th iteration of a block by itself) or 'val'.
        n (int): Which.
        rank (int): Which process.
        note (str): A file for the time.
    """

    priority = 'LOWEST'

    def __init__(self, deed: str, at: str, n: int, rank: int, note: str) -> None:
        self.deed, self.at, self.n, self.note = deed, at, n, note
        self.guilty, self.count = int(os.environ.get('RANK', 0)) == rank, 0

    def before_train(self, runner) -> None:
        """Lay hands on what is called in the moment that is meant."""
        if self.guilty and self.at == 'barrier':
            barrier = torch_dist.barrier
            torch_dist.barrier = lambda *args, **kwargs: (self.counted('barrier'), barrier(*args, **kwargs))
        if self.guilty and self.at == 'forward':
            runner.bare_model.register_forward_pre_hook(lambda net, _: self.counted('forward' if net.training else ''))

    def counted(self, at: str) -> None:
        """Do it if this is the moment."""
        if self.guilty and at == self.at:
            self.count += 1
            if self.count == self.n:
                do(self.deed, self.note)

    def at_position(self, runner, kind: str) -> None:
        """Count iterations and stages."""
        self.counted('apart' if kind == 'iter' and runner.train_loop.alone else kind)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count validation batches."""
        self.counted('val')


@DATASETS.register_module()
class OddDigits(Digits):
    """Digits that are different, or cannot be read, in one process.

    Args:
        how (str): 'shorter', 'pixels' (one differs), 'labels' (two are exchanged), 'raise' (image 50) or a deed.
        rank (int): Which process.
        note (str): A file for the time.
        **kwargs: Of ``Digits``.
    """

    def __init__(self, how: str, rank: int, note: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.how, self.note = (how if int(os.environ.get('RANK', 0)) == rank else ''), note
        self.asked = 0
        if self.how == 'shorter':
            self.images, self.labels = self.images[:-6], self.labels[:-6]
        elif self.how == 'pixels':
            self.images[7, 0, 3, 3] ^= 1
        elif self.how == 'labels':
            self.labels[:12] = self.labels[:12].flip(0)

    def __getitems__(self, indices) -> dict:
        """Fetch a batch, or not: the checks before training have asked for some already."""
        self.asked += 1
        if self.how in ('raise', 'hang', 'kill') and len(indices) == 16 and (get_worker_info() or self.asked > 4):
            Path(self.note).write_text(repr(time.time()))
            if self.how == 'raise':
                raise ValueError(f'image {int(indices[0])} cannot be read: the disk is gone')
            do(self.how, self.note)
        return super().__getitems__(indices)
