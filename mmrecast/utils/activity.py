"""Whether a process does anything: computes, waits for a processor or for a disk, or lets its workers do so."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

SHARE = 0.005  # of a processor; a process that sleeps has housekeeping threads that take a tenth of this
_BUSY = ('R', 'D')  # on a processor or waiting for one; waiting for a disk
_PROC = Path('/proc')
PACKAGE = Path(__file__).resolve().parent.parent


class Activity:
    """What this process and its children have done since it was last asked for.

    The thread that asks does not count. Without /proc (on other systems than Linux) children do not count either, nor
    does waiting for a processor or a disk.
    """

    def __init__(self) -> None:
        self._last = self._measured()

    def seen(self) -> bool:
        """Tell whether anything was done since the last call."""
        (then, own, others), now = self._last, self._measured()
        self._last = now
        computed = now[1] - own + sum(max(seconds - others.get(pid, 0.0), 0.0) for pid, seconds in now[2].items())
        return computed > SHARE * (now[0] - then) or self._held_up()

    @staticmethod
    def _measured() -> tuple[float, float, dict[int, float]]:
        """Return the time, this process's seconds of computing so far, and those of each child."""
        tick = os.sysconf('SC_CLK_TCK') if _PROC.is_dir() else 1
        children = {pid: (int(fields[11]) + int(fields[12])) / tick for pid, fields in _children()}
        return time.monotonic(), time.process_time() - time.thread_time(), children

    @staticmethod
    def _held_up() -> bool:
        """Tell whether a thread other than the one that asks, or a child, waits for a processor or a disk."""
        tasks = _PROC / 'self' / 'task'
        threads = [int(name) for name in os.listdir(tasks)] if tasks.is_dir() else []
        states = [_fields(tasks / str(thread)) for thread in threads if thread != threading.get_native_id()]
        states += [fields for _, fields in _children()]
        return any(fields and fields[0] in _BUSY for fields in states)


def _children() -> Iterator[tuple[int, list[str]]]:
    """Yield the number of every child and the fields of its stat file behind its name."""
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        fields = _fields(_PROC / name) if name.isdecimal() else None
        if fields and int(fields[1]) == os.getpid():
            yield int(name), fields


def _fields(folder: Path) -> list[str] | None:
    try:
        return (folder / 'stat').read_text().rpartition(')')[2].split()
    except OSError:  # it has ended meanwhile
        return None


def main_frame() -> FrameType | None:
    """Return the innermost Python frame of the main thread."""
    return sys._current_frames().get(threading.main_thread().ident)


def place(frame: FrameType | None) -> str:
    """Say where a thread is: its innermost line, and the innermost one outside the libraries if that is another."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    own = [f for f in frames if not _of_a_library(f.f_code.co_filename)]
    named = list(dict.fromkeys([*frames[:1], *own[:1]]))
    return ', called by '.join(f'{f.f_code.co_name} ({f.f_code.co_filename}:{f.f_lineno})' for f in named) or 'nowhere'


def _of_a_library(file: str) -> bool:
    if str(PACKAGE) in file:
        return False
    return file.startswith((sys.prefix, sys.base_prefix, '<')) or 'site-packages' in file
