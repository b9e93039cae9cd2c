"""A disk that fails while a run trains: what stops the run, and what is only told.

::

    checkpoint, result.json, widths.json, blocks/    told and tried again later, or the end (``on_failure``)
    student.pth, what a stage leaves for other runs  the end: nobody would write it again
    log file, scalars for curves                     told once: what they miss is lost
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer

from mmrecast.engine.checkpoints import LAST
from mmrecast.utils.disk import DiskError


@contextmanager
def going_on(runner: Any) -> Iterator[None]:
    """Let a file fail that is written again later, where the run's checkpoint hook has ``on_failure='warn'``."""
    try:
        yield
    except DiskError as error:
        if not any(getattr(hook, 'on_failure', None) == 'warn' for hook in runner.hooks):
            raise
        runner.logger.warning(f'training goes on without it: {error}')


def last_one(work_dir: str, text: str = '; {} is whole: go on from it with --resume') -> str:
    """Return the end of a message: which checkpoint of ``work_dir`` is the last; empty where there is none."""
    try:
        return text.format(Path((Path(work_dir) / LAST).read_text().strip()).name)
    except OSError:
        return ''


def told_once(logger: MMLogger) -> MMLogger:
    """Let the first failure of each of a logger's files be told in one line on the others, and no other; return it."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _Teller(logger, handler)
    return logger


class _Teller:
    """What a log file calls on a line that it cannot write; Python's own prints a traceback for each."""

    def __init__(self, logger: MMLogger, handler: logging.FileHandler) -> None:
        self._logger, self._handler, self._told = logger, handler, False

    def __call__(self, record: logging.LogRecord) -> None:
        if not self._told:
            self._told = True  # before a line is logged, which comes here again
            self._logger.warning(f'the log {self._handler.baseFilename} cannot be written: lines will lack there')


def guarded(visualizer: Visualizer, logger: MMLogger) -> Visualizer:
    """Put a guard before every backend of a visualizer, and return it."""
    backends = visualizer._vis_backends
    for name, backend in backends.items():
        if not isinstance(backend, _Guard):
            backends[name] = _Guard(backend, name, logger)
    return visualizer


class _Guard:
    """A visualizer's backend whose first failure to write is told in one line, and no other."""

    def __init__(self, backend: Any, name: str, logger: MMLogger) -> None:
        self._backend, self._name, self._logger, self._told = backend, name, logger, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not name.startswith('add_') and name != 'close':
            return found

        def call(*args, **kwargs) -> Any:
            try:
                return found(*args, **kwargs)
            except OSError as error:
                if not self._told:
                    self._told = True
                    why = error.strerror or error
                    self._logger.warning(f'{self._name} cannot write ({why}): its curves will lack what is logged now')

        return call
