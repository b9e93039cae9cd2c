"""Whether a process does anything: computes, waits for a processor or for a disk, or lets its workers do so."""

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

SHARE = 0.01  # of a processor
_BUSY = ('R', 'D')  # on a processor or waiting for one; waiting for a disk
_KEEPERS = ('gloo_', 'pt_gloo', 'pt_nccl', 'pt_tcpstore')  # torch's threads that wake a hundred times a second
_PROC = Path('/proc')
PACKAGE = Path(__file__).resolve().parent.parent


class Activity:
    """What this process and its children have done since it was last asked for.

    The thread that asks does not count, nor those that keep torch's connections. Without /proc (on other systems than
    Linux) children do not count either, nor does waiting for a processor or a disk.
    """

    def __init__(self) -> None:
        self._then, self._seconds = time.monotonic(), {number: seconds for number, _, seconds in _doing()}

    def seen(self) -> bool:
        """Tell whether anything was done since the last call."""
        now, found = time.monotonic(), _doing()
        before = self._seconds
        computed = sum(seconds - before.get(number, 0.0) for number, _, seconds in found)
        worked = computed > SHARE * (now - self._then)
        self._then, self._seconds = now, {number: seconds for number, _, seconds in found}
        return worked or any(state in _BUSY for _, state, _ in found)


def _doing() -> list[tuple[int, str, float]]:
    """Return the number of every thread that counts and of every child, its state and its seconds of computing."""
    if not _PROC.is_dir():
        return [(0, '', time.process_time() - time.thread_time())]
    tick, own, tasks = os.sysconf('SC_CLK_TCK'), threading.get_native_id(), _PROC / 'self' / 'task'
    threads = [(int(name), *_stat(tasks / name)) for name in os.listdir(tasks) if int(name) != own]
    others = [(int(name), *_stat(_PROC / name)) for name in os.listdir(_PROC) if name.isdecimal()]
    found = [(number, fields) for number, name, fields in threads if fields and not name.startswith(_KEEPERS)]
    found += [(number, fields) for number, _, fields in others if fields and int(fields[1]) == os.getpid()]
    return [(number, fields[0], (int(fields[11]) + int(fields[12])) / tick) for number, fields in found]


def _stat(folder: Path) -> tuple[str, list[str]]:
    """Return the name in a stat file, and the fields behind it; none where the process has ended meanwhile."""
    try:
        before, _, behind = (folder / 'stat').read_text().rpartition(')')
    except OSError:
        return '', []
    return before.partition('(')[2], behind.split()


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
