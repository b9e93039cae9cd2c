"""Where a run is, told from inside, and a SIGKILL at a chosen call: what configs under attack import.

A run tells its phases to the file that ``TORTURE_PHASES`` names, a line each: its clock and the phase. A run with
``TORTURE_KILL`` ends itself, or its whole process group, at the n-th call of a kind for a file of a name.
"""

import builtins
import fnmatch
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmrecast.registry import HOOKS
from mmrecast.utils import checkpoint


@HOOKS.register_module()
class Phases(Hook):
    """Tell which phase the run is in; one goes before all other hooks, one behind them.

    The phases are a stage's kind while it trains, 'checkpoint' while one may be written, 'boundary' from the last
    iteration of a stage to the first of the next, and 'end' behind the last. Before the first of them it starts.

    Args:
        last (bool): Whether it is the one behind the others.
    """

    def __init__(self, last: bool) -> None:
        self.last, self.priority = last, 'LOWEST' if last else 'VERY_HIGH'
        self.path, self.phase = os.environ.get('TORTURE_PHASES'), ''
        if not last and 'TORTURE_KILL' in os.environ:
            arm(**json.loads(os.environ['TORTURE_KILL']))

    def tell(self, phase: str) -> None:
        """Add a phase to the file, in one call."""
        if self.path and is_main_process():
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f'{time.monotonic():.6f} {phase}\n'.encode())
            os.close(handle)

    def before_train(self, runner) -> None:
        if not self.last:
            self.tell('boundary')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if not self.last and self.phase != runner.train_loop.stage.name:
            self.phase = runner.train_loop.stage.name
            self.tell(runner.train_loop.stage.kind)

    def at_position(self, runner, kind: str) -> None:
        loop = runner.train_loop
        if not self.last:
            self.tell('checkpoint')
        elif kind == 'stage' or loop._stage_over:
            self.tell('boundary')
        else:
            self.tell(loop.stage.kind)

    def after_train(self, runner) -> None:
        if not self.last:
            self.tell('end')


def arm(call: str, name: str, n: int, group: bool = True) -> None:
    """Let this process end itself with SIGKILL at a call.

    Args:
        call (str): 'write' (half of a file is written), 'fsync', 'replace', 'replaced', 'unlink' or 'unlinked': before
            the call, or behind it.
        name (str): Pattern of the file's path; of a temporary file, of the path it is going to have.
        n (int): At which of these calls.
        group (bool): Whether the other processes of its group end with it. Defaults to True.
    """
    seen = 0

    def strike(path: object) -> None:
        nonlocal seen
        final = re.sub(r'\.([^/]+)\.[0-9a-f]{32}\.tmp$', r'\1', os.fspath(path))
        seen += fnmatch.fnmatch(final, f'*/{name}')
        if seen == n and fnmatch.fnmatch(final, f'*/{name}'):
            Path(os.environ['TORTURE_PHASES']).with_suffix('.struck').touch()
            (os.killpg if group else os.kill)(os.getpgrp() if group else os.getpid(), signal.SIGKILL)

    def around(real: Callable, path_of: Callable, after: bool) -> Callable:
        def wrapped(*args, **kwargs):
            path = path_of(*args)
            if not after:
                strike(path)
            result = real(*args, **kwargs)
            if after:
                strike(path)
            return result

        return wrapped

    if call == 'write':
        checkpoint.open = lambda *args: Half(builtins.open(*args), lambda: strike(args[0]))
    elif call == 'fsync':
        os.fsync = around(os.fsync, lambda handle: os.readlink(f'/proc/self/fd/{handle}'), False)
    elif call in ('replace', 'replaced'):
        os.replace = around(os.replace, lambda _, path: path, call == 'replaced')
    elif call in ('unlink', 'unlinked'):
        os.unlink = around(os.unlink, lambda path: path, call == 'unlinked')
    else:
        raise ValueError(f'no call {call!r} to strike at')


class Half:
    """A file that calls ``strike`` when half of the first larger write, or of the only one, has reached the disk."""

    def __init__(self, file, strike: Callable) -> None:
        self.file, self.strike = file, strike

    def write(self, data) -> int:
        if self.strike is not None and 'w' in self.file.mode:
            half = memoryview(data)[: len(data) // 2]
            self.file.write(half)
            self.file.flush()
            strike, self.strike = self.strike, None
            strike()
            return len(half) + self.file.write(memoryview(data)[len(half) :])
        return self.file.write(data)

    def __enter__(self) -> 'Half':
        self.file.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.file.__exit__(*error)

    def __getattr__(self, name: str):
        return getattr(self.file, name)
