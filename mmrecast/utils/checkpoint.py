"""Read checkpoints without running code from them, and write files whole or not at all."""

import json
import os
import re
import stat
import threading
import uuid
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.logging import HistoryBuffer

from mmrecast.utils.disk import NotingFile, cannot_write
from mmrecast.utils.names import nearest
from mmrecast.utils.settling import settle
from mmrecast.utils.unpickling import ALLOWED, imported_names, is_archive

MAX_JSON = 256 << 20  # bytes; results and tables have some hundred thousand

_lock = threading.Lock()  # torch's allow-list belongs to the process


def load_file(path: str | Path, map_location: Any = 'cpu') -> object:
    """Read a checkpoint with ``weights_only=True``.

    Besides tensors and plain containers it may hold what mmengine stores: ``HistoryBuffer``, numpy arrays
    and numbers, and a one-cycle scheduler, whose annealing function is left out. Nothing that was allowed
    elsewhere with ``torch.serialization.add_safe_globals`` counts here.

    Args:
        path (str | Path): The file.
        map_location: As in ``torch.load``. Defaults to ``'cpu'``.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: ``path`` is none.
        ValueError: The file is empty, truncated, no checkpoint at all, holds anything else than the above, or stands
            for far more than its own size.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f'a checkpoint is given by the path of its file, got {path!r}')
    path = Path(path)
    shown = _shown(path)
    try:
        size = _size_of(path)
        if size == 0:
            raise ValueError('the file is empty')
    except ValueError as error:
        raise ValueError(f'{shown} is not a readable checkpoint ({error})') from None
    if size is None:
        beside = [file.name for file in path.parent.glob('*.pth')] if path.parent.is_dir() else []
        raise FileNotFoundError(f'no checkpoint at {shown}{nearest(path.name, beside)}')
    try:
        _refuse_bombs(path, size)
        return settle(_load(path, map_location), size)
    except PermissionError:
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        forbidden = _forbidden(path, str(error))
        if forbidden:
            raise ValueError(f'{shown} holds {forbidden}, which a checkpoint may not; it was not run') from None
        reason = _what_it_is(path) or (str(error).strip() or type(error).__name__).splitlines()[0].split('. ')[0]
        raise ValueError(f'{shown} is not a readable checkpoint ({reason})') from None


def read_json(path: str | Path) -> object:
    """Read a JSON file that is not larger than 256 MiB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file, too large, or no JSON.
    """
    path = Path(path)
    try:
        size = _size_of(path)
        if size is None:
            raise FileNotFoundError(f'there is no file {_shown(path)}')
        if size > MAX_JSON:
            raise ValueError(f'it has {size:,} bytes, a JSON file of at most {MAX_JSON:,} is expected')
        return json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:  # the latter of its nesting
        raise ValueError(f'{_shown(path)} is not JSON: {error}') from error


def _shown(path: Path) -> str:
    """Return a path for a message of one line; a name can hold line breaks, and thousands of characters."""
    text = ''.join(sign if sign.isprintable() else '?' for sign in str(path))
    return text if len(text) < 300 else f'{text[:200]}…{text[-60:]}'


def _size_of(path: Path) -> int | None:
    """Return the bytes of a file, None where there is nothing.

    Raises:
        ValueError: It is a folder, a link that leads round in a circle, or a pipe or device, which could be waited for;
            the message says which alone.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero
        raise ValueError(getattr(error, 'strerror', None) or str(error)) from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError('it is a folder')
    if not stat.S_ISREG(found.st_mode):
        raise ValueError('it is a pipe or a device')
    return found.st_size


def _refuse_bombs(path: Path, size: int) -> None:
    """Refuse what would take more memory while it is read than the file has bytes.

    Raises:
        ValueError: It is compressed, or parts of it lie over one another, or it asks for an array of zeros.
    """
    if is_archive(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError('it is compressed, which no checkpoint of torch is')
        if sum(entry.file_size for entry in entries) > size or len({e.filename.lower() for e in entries}) < len(
            entries
        ):
            raise ValueError('parts of it lie over one another')
    if 'builtins.bytearray' in imported_names(path):  # torch would call it with any number
        raise ValueError('it holds a bytearray')


def _load(path: Path, map_location: Any) -> object:
    """Load a file with nothing allowed but ``ALLOWED``; what the process allows and shares is put back."""
    with _lock:
        HistoryBuffer()  # fills in the statistics that all buffers share: a file could overwrite them
        statistics = dict(HistoryBuffer._statistics_methods)
        others = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(list(ALLOWED.values()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # on other forms of file: they load, or the error says it in one line
                return torch.load(path, map_location=map_location, weights_only=True)
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(list(others))
            HistoryBuffer._statistics_methods.clear()
            HistoryBuffer._statistics_methods.update(statistics)


def _forbidden(path: Path, message: str) -> str | None:
    """Return the first thing in a refused file that is not allowed, or None where it is just damaged."""
    call = re.search(r'GLOBAL ([\w.]+\(.*?\))', message)  # as the stand-ins of ALLOWED put it
    if call:
        return call[1]
    known = ALLOWED.keys() | torch._weights_only_unpickler._get_allowed_globals().keys()
    return next((name for name in imported_names(path) if name not in known), None)


def _what_it_is(path: Path) -> str | None:
    """Say what a file that cannot be read is where that shows; this is what failed downloads and copies leave."""
    with open(path, 'rb') as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'it is a web page: download it again'
    if start.startswith(b'version https://git-lfs'):
        return 'it is a pointer of Git LFS: run git lfs pull'
    if start.startswith(b'pk\x03\x04') and not _ends_as_archive(path):
        return 'it is cut short: copy or download it again'
    if start.isascii() and start.replace(b'\n', b'').replace(b'\t', b'').decode().isprintable():
        return 'it is a text file'
    return None


def _ends_as_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its end is damaged, or speaks of further disks
        return False


def save_file(obj: object, path: str | Path) -> None:
    """Save ``obj`` with ``torch.save``: the file appears whole, or the previous one stays.

    Args:
        obj: What ``torch.save`` takes.
        path (str | Path): The file; its folder is made where there is none.

    Raises:
        DiskError: It cannot be written; the message says why, and what to do.
    """
    _replace(Path(path), lambda file: torch.save(obj, file))


def write_text(text: str, path: str | Path) -> None:
    """Write ``text`` in UTF-8: the file appears whole, or the previous one stays.

    Raises:
        DiskError: It cannot be written; the message says why, and what to do.
    """
    _replace(Path(path), lambda file: file.write(text.encode()))


def write_json(obj: object, path: str | Path) -> None:
    """Write ``obj`` as indented JSON: the file appears whole, or the previous one stays.

    Raises:
        TypeError: ``obj`` holds something JSON has no form for; nothing is written.
        DiskError: It cannot be written; the message says why, and what to do.
    """
    write_text(json.dumps(obj, indent=2, ensure_ascii=False) + '\n', path)


def copy_file(source: str | Path, path: str | Path) -> None:
    """Copy the bytes of ``source``: the copy appears whole, or the previous file stays."""
    content = Path(source).read_bytes()
    _replace(Path(path), lambda file: file.write(content))


def unfinished(folder: str | Path) -> list[Path]:
    """Return the temporary files in ``folder``: of writers that were killed, where nobody is writing."""
    return [path for path in Path(folder).glob('.*.tmp') if re.fullmatch(r'\..+\.[0-9a-f]{32}\.tmp', path.name)]


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, see it to the disk, then rename it to ``path``."""
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder: name a file to write')
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
    noting = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'wb') as file:
            noting = NotingFile(file)
            write(noting)
            noting.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == 'posix':  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException as error:
        with suppress(OSError):  # of a disk that failed
            temporary.unlink(missing_ok=True)
        of_the_system = isinstance(error, OSError) and error.errno is not None
        cause = error if of_the_system else noting and noting.error  # torch.save puts its own on top
        if cause is None or not isinstance(error, Exception):
            raise
        raise cannot_write(path, cause, write) from error
