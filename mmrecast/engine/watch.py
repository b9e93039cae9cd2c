"""A watch over the processes of a run: one that is lost or hangs ends the others, which say so.

::

    every process, a thread of its own                       a store beside the run (torchrun's, or the first process's)
    every second: do I do anything? do I wait for others? ─▶ my sign: count, seconds without activity, where I am
                                       what do others say? ◀─ everyone's signs, and the verdict, once there is one

The collectives' own timeout cannot tell a process that hangs from one that has much to do while the others wait: it
has to be long. A process that computes, reads a disk or waits for a processor is at work, however long that takes. One
that does none of it and does not wait for other processes hangs; one that gives no sign is lost; and where all wait
for each other, none goes on. The first to see one of these writes the verdict, and all end by it.
"""

import atexit
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import torch.distributed as torch_dist
from mmengine.dist import get_dist_info, is_distributed
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from mmrecast.utils.activity import Activity, main_frame, place
from mmrecast.utils.mistakes import explain

PATIENCE = 40.0  # seconds: with a second to see it and some to end, a process that hangs is known within a minute
PERIOD = 1.0
PAUSE = 10.0  # seconds between two rounds by which this process itself was stopped meanwhile, and others with it
SILENCE = 4.0  # seconds without a sign, when a connection has just broken
GRACE = 3.0  # seconds in which a process may end by itself when there is a verdict
STATUS = 3
STORE_LOST = 'whoever keeps the store of all processes (rank 0, or torchrun) was lost'
_BROKEN = ('gloo', 'nccl', 'processgroup', 'tcpstore', 'connection closed', 'connection reset', 'a process was lost')
_watch: 'Watch | None' = None
_watches = itertools.count()


class RunEnded(RuntimeError):
    """This process ends because of another one; the message says which and what of."""


class Watch(threading.Thread):
    """The thread that gives a process's signs and reads the others'.

    Args:
        store (Store): Where signs are kept; no other thread may use this connection.
        rank (int): Of this process.
        processes (int): How many there are.
        patience (float): Seconds without activity, or without a sign, after which a process is given up.
    """

    def __init__(self, store: torch_dist.Store, rank: int, processes: int, patience: float) -> None:
        super().__init__(name='watch', daemon=True)
        self.rank, self.processes, self.patience = rank, processes, patience
        self.inside = True  # whether this process is in a run at all
        self._store, self._lock = torch_dist.PrefixStore(f'mmrecast_watch{next(_watches)}', store), threading.Lock()
        self._activity, self._count, self._idle_since = Activity(), 0, time.monotonic()
        self._signs: dict[int, dict] = {}
        self._heard = dict.fromkeys(range(processes), time.monotonic())
        self._round_at = time.monotonic()
        self._over = threading.Event()

    def run(self) -> None:
        """Give and read signs until the process ends or there is a verdict."""
        while not self._over.wait(PERIOD):
            try:
                self._round()
            except (RuntimeError, OSError):
                if self.inside and not self._over.wait(GRACE):
                    self._end(STORE_LOST)
                return

    def leave(self) -> None:
        """Say that this process is no longer in a run: it may do, or not do, what it likes."""
        self.inside = False
        try:
            self.give_sign()
        except (RuntimeError, OSError):
            pass

    def stop(self) -> None:
        """Leave, and give no more signs."""
        self._over.set()
        self.leave()

    def give_sign(self) -> None:
        """Write how this process is."""
        with self._lock:
            now, frame = time.monotonic(), main_frame()
            if self._activity.seen():
                self._idle_since = now
            self._count += 1
            sign = dict(count=self._count, inside=self.inside, idle=now - self._idle_since, at=place(frame))
            sign |= dict(waits=waits_for_others(frame), host=socket.gethostname(), pid=os.getpid())
            self._store.set(f'sign{self.rank}', json.dumps(sign))

    def say(self, verdict: str) -> str:
        """Write a verdict where there is none yet, and return the one that counts."""
        with self._lock:
            return self._store.compare_set('verdict', '', verdict).decode()

    def verdict(self) -> str | None:
        """Return why the run ends, None while it does not."""
        with self._lock:
            return self._store.get('verdict').decode() if self._store.check(['verdict']) else None

    def silent(self, seconds: float) -> list[int]:
        """Return the other processes that have given no sign for so long, or have left the run."""
        now, gone = time.monotonic(), {r for r, sign in self._signs.items() if not sign['inside']}
        quiet = {r for r, heard in self._heard.items() if now - heard > seconds}
        return sorted((gone | quiet) - {self.rank})

    def _round(self) -> None:
        now, before = time.monotonic(), self._round_at
        self._round_at = now
        if now - before > PAUSE:
            self._idle_since, self._heard = now, dict.fromkeys(self._heard, now)
        self.give_sign()
        self._read_signs()
        said = self.verdict()
        if said is None and self.inside:
            found = self._judged()
            said = None if found is None else self.say(found)
        if said is not None and self.inside and not self._over.wait(GRACE):
            self._end(said)

    def _read_signs(self) -> None:
        with self._lock:
            for rank in range(self.processes):
                if self._store.check([f'sign{rank}']):
                    sign = json.loads(self._store.get(f'sign{rank}'))
                    if sign['count'] != self._signs.get(rank, {}).get('count') or not sign['inside']:
                        self._heard[rank] = time.monotonic()
                    self._signs[rank] = sign

    def _judged(self) -> str | None:
        """Return what is wrong with a process, None where nothing is known to be."""
        for rank, heard in self._heard.items():
            if time.monotonic() - heard > self.patience:
                sign = self._signs.get(rank)
                where = f'; it was in {sign["at"]}, process {sign["pid"]} of {sign["host"]}' if sign else ''
                return f'rank {rank} is lost: no sign of it for {self.patience:g} s{where}'
        idle = {r: s for r, s in self._signs.items() if s['inside'] and s['idle'] > self.patience}
        for rank, sign in idle.items():
            if not sign['waits']:
                return f'rank {rank} hangs: it has done nothing for {self.patience:g} s in {sign["at"]}'
        if len(idle) == self.processes:
            where = ', '.join(f'rank {rank} in {idle[rank]["at"]}' for rank in sorted(idle))
            return f'all processes have waited for each other for {self.patience:g} s: {where}'
        return None

    def _end(self, said: str) -> None:
        """End this process, whatever its main thread waits for."""
        error = RunEnded(ended(self.rank, said))
        get_error_handler().record_exception(error)
        print(f'error: {error}', file=sys.stderr, flush=True)
        os._exit(STATUS)


def waits_for_others(frame: FrameType | None) -> bool:
    """Tell whether a thread waits for other processes: for a collective of its own, or for one within backward."""
    if frame is None:
        return False
    module, function = frame.f_globals.get('__name__', ''), frame.f_code.co_name
    wraps = module == 'torch.nn.parallel.distributed'  # buffers and shapes
    ours = module == __name__  # the cause of a broken connection
    return ours or wraps or module.startswith('torch.distributed') or function == '_engine_run_backward'


def ended(rank: int, said: str) -> str:
    """Return the line by which a process ends."""
    return f'rank {rank} ends: {said}; go on with --resume when that is mended'


def enter_watch(patience: float = PATIENCE) -> None:
    """Watch over the processes of the run that begins, where there are several that a store can join.

    Args:
        patience (float): See :class:`Watch`; 0 for none: then only the collectives' timeout helps. Defaults to 40.

    Raises:
        ValueError: It is no number of at least 0.
    """
    global _watch
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 <= patience < float('inf'):
        raise ValueError(f'env_cfg: patience must be a number of seconds of at least 0, got {patience!r}')
    rank, processes = get_dist_info()
    if not is_distributed() or processes == 1 or not patience or 'MASTER_ADDR' not in os.environ:
        return
    if _watch is None or not _watch.is_alive():
        # A connection of its own: one that waits for a key keeps all others of its process waiting.
        store = torch_dist.TCPStore(
            os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False, wait_for_workers=False,
            timeout=timedelta(seconds=30),
        )  # fmt: skip
        _watch = Watch(store, rank, processes, patience)
        _watch.give_sign()
        _watch.start()
        atexit.register(_watch.stop)
    _watch.patience, _watch.inside = float(patience), True


def leave_watch() -> None:
    """Say that this process's run has come to its end."""
    if _watch is not None:
        _watch.leave()


@contextmanager
def told_to_others() -> Iterator[None]:
    """Tell the other processes of a mistake made inside; where they are at fault, say so instead of what it led to.

    Raises:
        RunEnded: Another process was lost, hangs or has failed.
    """
    try:
        yield
    except Exception as error:
        watch = _watch
        if watch is None or not watch.is_alive() or isinstance(error, RunEnded):
            raise
        broken = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _BROKEN)
        try:
            said = _cause(watch, error) if broken else watch.say(f'rank {watch.rank} failed: {described(error)}')
        except (RuntimeError, OSError):  # of the store
            said = STORE_LOST
        watch.stop()
        told = RunEnded(ended(watch.rank, said)) if broken else error
        get_error_handler().record_exception(told)
        if broken:
            raise told from None
        raise


def _cause(watch: Watch, error: RuntimeError) -> str:
    """Wait until it is known why a connection broke, and return it."""
    end = time.monotonic() + 2 * SILENCE
    while time.monotonic() < end:
        said = watch.verdict()
        if said is not None:
            return said
        silent = watch.silent(SILENCE)
        if silent:
            return watch.say(f'rank {", ".join(map(str, silent))} is lost: killed, or its machine is gone')
        time.sleep(PERIOD / 4)
    return f'a connection to another process broke ({_first_line(error)})'


def described(error: BaseException) -> str:
    """Return the type of a mistake and, in one line, what it says; of one in a data loader's worker, its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and 'Original Traceback' in str(error):
        return f'{lines[-1]} (in a worker of the data loader)'
    return f'{type(error).__name__}: {explain(error)}'


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
