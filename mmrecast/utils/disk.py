"""What to say of a file that cannot be written: which, why, how much room it takes, and what to do."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, getattr(errno, 'EDQUOT', errno.ENOSPC))
SPACE = (*FULL, errno.EFBIG)
WRITING = (*SPACE, errno.EROFS)
"""tuple[int]: Numbers of errors that only writing meets."""
_ADVICE = {
    errno.ENOSPC: 'make room there or write elsewhere',
    getattr(errno, 'EDQUOT', errno.ENOSPC): 'make room there, have the quota raised or write elsewhere',
    errno.EROFS: 'have it mounted for writing or write elsewhere',
    errno.EACCES: 'have the permission given or write elsewhere',
    errno.EPERM: 'have the permission given or write elsewhere',
    errno.ENOENT: 'its folder has gone: put it back or write elsewhere',
    errno.EEXIST: 'what should be its folder is a file: move that away or write elsewhere',
    errno.ENOTDIR: 'what should be its folder is a file: move that away or write elsewhere',
    errno.EFBIG: 'have the limit on the size of files raised (ulimit -f)',
}


class DiskError(OSError):
    """A file could not be written; what it is to replace is whole, and no part of it is left behind.

    Args:
        message (str): What happened, in one line.
    """


class NotingFile:
    """A file that keeps the first error of writing: what writes through it may put an error of its own on top.

    Args:
        file (BinaryIO): Where the bytes go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write ``data`` and return how many bytes were."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._file.flush()
        except OSError as error:
            self.error = self.error or error
            raise


class _Counter:
    """A file that keeps nothing of what is written but its length."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        pass


def cannot_write(path: Path, error: OSError, write: Callable[[BinaryIO], object] | None = None) -> DiskError:
    """Return the error that tells in one line why ``path`` was not written.

    Args:
        path (Path): The file.
        error (OSError): Why.
        write (Callable[[BinaryIO], object], optional): What writes its content to a file, to tell how much that is.
    """
    said = f'{path} cannot be written: {error.strerror or error}'
    if error.errno in SPACE and write is not None:
        counter = _Counter()
        write(counter)
        said += f'; it takes {_mib(counter.size)}'
    if error.errno in FULL:
        free = _free(path.parent)
        said += '' if free is None else f', {_mib(free)} are free'
    made = DiskError(f'{said}; {_ADVICE.get(error.errno, "write elsewhere")}')
    made.errno = error.errno
    return made


def _free(folder: Path) -> int | None:
    """Return the bytes that are free where ``folder`` is or was, None where that cannot be told."""
    try:
        return shutil.disk_usage(next(one for one in (folder, *folder.absolute().parents) if os.path.isdir(one))).free
    except (OSError, StopIteration):
        return None


def _mib(size: int) -> str:
    return f'{size / 2**20:.3g} MiB'
