"""One training per work dir, by a lock that the kernel takes back from a process that dies."""

import os
import socket
import time
import warnings
import weakref
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = 'train.lock'


class WorkDirLock:
    """The lock of a work dir, held as long as this object lives: `lock_work_dir` makes it."""

    def __init__(self, path: str, handle: int) -> None:
        self.pid = os.getpid()
        self.let_go = weakref.finalize(self, _let_go, path, handle, self.pid)


_held: weakref.WeakValueDictionary[str, WorkDirLock] = weakref.WeakValueDictionary()


def lock_work_dir(work_dir: str) -> WorkDirLock | None:
    """Take the lock of a work dir for this process; whoever in it asks again gets the same lock.

    It is a record lock (``lockf``): it ends with the process however that ends, it is not inherited by loader
    processes, which outlive a killed run by seconds, and it counts between machines where their file system says so.

    Args:
        work_dir (str): The folder, made where there is none.

    Returns:
        WorkDirLock, optional: To be kept while the run writes; None, with a warning, where files cannot be locked.

    Raises:
        BlockingIOError: Another process holds it; the message says which.
        OSError: The lock's file cannot be written.
    """
    path = os.path.join(os.path.realpath(work_dir), NAME)
    ours = _held.get(path)
    if ours is not None and ours.pid == os.getpid():  # not that of the process we were forked from
        return ours
    if fcntl is None:
        return None
    while True:
        os.makedirs(work_dir, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(handle, 300, 0).decode(errors='replace').strip() or 'another process'
            os.close(handle)
            raise BlockingIOError(
                f'{work_dir} is in use: {holder} trains in it ({path} is locked); '
                'wait until it is done, or end it, or choose another folder for this run'
            ) from None
        except OSError as error:
            os.close(handle)
            with suppress(OSError):
                os.unlink(path)
            warnings.warn(
                f'{path} cannot be locked ({error.strerror}): see to it that no second run uses {work_dir}',
                stacklevel=2,
            )
            return None
        if _is_at(handle, path):
            break
        os.close(handle)  # its holder removed the file after we had opened it
    text = f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")},'
    with suppress(OSError):  # on a full disk: the lock holds without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    lock = _held[path] = WorkDirLock(path, handle)
    return lock


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _let_go(path: str, handle: int, pid: int) -> None:
    if os.getpid() != pid:  # a child's copy
        return
    with suppress(OSError):
        if _is_at(handle, path):  # before the lock goes: later it may be another's
            os.unlink(path)
    with suppress(OSError):
        os.close(handle)
