"""The official python batches of CIFAR: pickles in a folder or a tar.gz, each checked by its md5."""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmrecast.utils.settling import settle
from mmrecast.utils.unpickling import ALLOWED

md5_hash = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True)
class OfficialArchive:
    """Where a data set is published and what its files are.

    Args:
        url (str): Address of the tar.gz.
        md5 (str): md5 of the tar.gz.
        folder (str): Folder inside it.
        batches (Mapping[str, Mapping[str, str]]): For ``'train'`` and ``'test'``, file names with their md5.
        label_key (str): Key of the labels in a batch.
    """

    url: str
    md5: str
    folder: str
    batches: Mapping[str, Mapping[str, str]]
    label_key: str

    @property
    def filename(self) -> str:
        """Name of the tar.gz."""
        return self.url.rsplit('/', 1)[-1]

    @property
    def files(self) -> list[str]:
        """Names of all batches."""
        return [name for batches in self.batches.values() for name in batches]


def read_folder(archive: OfficialArchive, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one split from a folder of batches.

    Args:
        archive (OfficialArchive): What to expect.
        folder (Path): Holds the batches.
        split (str): ``'train'`` or ``'test'``.

    Returns:
        tuple[np.ndarray, np.ndarray]: uint8 images of shape (N, 3, 32, 32) and int64 labels of shape (N,).

    Raises:
        FileNotFoundError: A batch is missing.
        ValueError: A batch has another md5 or is no batch.
    """
    missing = [name for name in archive.files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f'{folder} lacks {", ".join(missing)} (of {len(archive.files)} batches)')

    def read(name: str, md5: str) -> bytes:
        content = (folder / name).read_bytes()
        check_md5(folder / name, md5_hash(content).hexdigest(), md5)
        return content

    return _read_batches(archive, split, read, str(folder))


def read_tar(archive: OfficialArchive, path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one split from the tar.gz, without unpacking it on disk; otherwise as :func:`read_folder`."""
    with open(path, 'rb') as file:
        check_md5(path, hashlib.file_digest(file, md5_hash).hexdigest(), archive.md5)
    wanted = {f'{archive.folder}/{name}': name for name in archive.batches[split]}
    contents = {}
    try:
        with tarfile.open(path, 'r:gz') as tar:
            for member in tar:
                name = wanted.get(member.name.removeprefix('./'))
                if name is not None and member.isfile():
                    contents[name] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f'{path} is not a readable tar.gz ({error})') from error
    missing = [name for name in archive.batches[split] if name not in contents]
    if missing:
        raise FileNotFoundError(f'{path} lacks {", ".join(f"{archive.folder}/{name}" for name in missing)}')
    return _read_batches(archive, split, lambda name, _: contents[name], f'{path}:{archive.folder}')


def check_md5(path: Path, found: str, expected: str) -> None:
    """Compare two md5 sums.

    Raises:
        ValueError: They differ.
    """
    if found != expected:
        raise ValueError(
            f'{path} has md5 {found}, expected {expected}: it is damaged or not the official file, delete it'
        )


def _read_batches(
    archive: OfficialArchive, split: str, read: Callable[[str, str], bytes], where: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for name, md5 in archive.batches[split].items():
        batch = load_batch(read(name, md5), f'{where}/{name}')
        data, label = batch.get(b'data'), batch.get(archive.label_key.encode())
        whole = isinstance(label, list) and all(type(value) is int for value in label)
        pixels = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3072,)
        if not (whole and pixels and len(data) == len(label)):
            raise ValueError(
                f"{where}/{name} is not a CIFAR batch: expected uint8 'data' of shape (N, 3072) "
                f'and a list of N whole numbers as {archive.label_key!r}'
            )
        images.append(data.reshape(-1, 3, 32, 32))
        labels += label
    return np.concatenate(images), np.array(labels, dtype=np.int64)


def load_batch(content: bytes, name: str) -> dict:
    """Unpickle a batch in which nothing but plain data and numpy arrays may appear.

    Args:
        content (bytes): The pickle, of Python 2 or 3.
        name (str): Its name, for the errors.

    Returns:
        dict: With keys of type bytes, whatever wrote it.

    Raises:
        ValueError: No dict, no pickle, or one that refers to anything else (such as code).
    """
    try:
        batch = settle(_PlainUnpickler(io.BytesIO(content), encoding='bytes').load(), len(content))
    except _ForbiddenError as error:
        raise ValueError(f'{name} refers to {error}, which no CIFAR batch contains; it was not loaded') from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = ' '.join(str(error).split())
        raise ValueError(f'{name} is not a readable pickle ({type(error).__name__}: {reason})') from error
    if not isinstance(batch, dict):
        raise ValueError(f'{name} holds a {type(batch).__name__}, expected a dict')
    return {key.encode() if isinstance(key, str) else key: value for key, value in batch.items()}


class _ForbiddenError(Exception):
    pass


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, by which Python 3 writes bytes in old pickle protocols."""
    if encoding != 'latin1':
        raise _ForbiddenError(f'_codecs.encode to {encoding!r}')
    return text.encode('latin1')


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ('_codecs', 'encode'):
            return _latin1
        if module.split('.')[0] == 'numpy' and f'{module}.{name}' in ALLOWED:
            return ALLOWED[f'{module}.{name}']
        raise _ForbiddenError(f'{module}.{name}')
