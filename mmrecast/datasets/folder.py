"""Images in a tree ``<class>/*.{png,jpg}``, decoded once and kept as one array in the user's cache folder."""

import hashlib
import os
from collections.abc import Sequence
from logging import WARNING
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from mmrecast.utils.checkpoint import _replace as replace_file
from mmrecast.utils.names import nearest

SUFFIXES = ('.png', '.jpg', '.jpeg')


def cache_folder() -> Path:
    """Return the folder of decoded images, ``mmrecast-decoded`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmrecast-decoded'


def read_tree(folder: Path, classes: Sequence[str], shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read the images of a tree, from the cache where the same files were decoded before.

    Args:
        folder (Path): Holds one folder per class, named as the class.
        classes (Sequence[str]): Names of the classes; their order gives the labels.
        shape (tuple[int, int, int]): Expected shape of an image, (3, H, W).

    Returns:
        tuple[np.ndarray, np.ndarray]: uint8 images of shape (N, 3, H, W) and int64 labels of shape (N,),
        class by class, sorted by file name within each.

    Raises:
        ValueError: A folder that is no class, or a file that is no image of this shape.
        FileNotFoundError: A class without images.
    """
    files, labels, fingerprint = _scan(folder, classes)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    cached = cache_folder() / f'{place}-{fingerprint}.npy'
    images = _load(cached, (len(files), *shape))
    if images is None:
        print_log(f'decoding {len(files):,} images of {folder} (once; kept in {cached})', 'current')
        images = _decode(files, shape)
        _store(cached, images, place)
    return images, labels


def _scan(folder: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray, str]:
    """List the image files with their labels, and a digest of their names, sizes and times."""
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        if name not in classes and not name.startswith('.'):
            raise ValueError(f'{folder / name} is not one of the {len(classes)} classes{nearest(name, classes)}')
    files: list[Path] = []
    labels: list[int] = []
    digest = hashlib.sha256()
    missing = []
    for label, name in enumerate(classes):
        path = folder / name
        entries = os.scandir(path) if path.is_dir() else ()
        found = sorted((e for e in entries if e.name.lower().endswith(SUFFIXES)), key=lambda e: e.name)
        missing += [] if found else [name]
        for entry in found:
            stat = entry.stat()
            digest.update(f'{name}/{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n'.encode(errors='surrogateescape'))
        files += [path / entry.name for entry in found]
        labels += [label] * len(found)
    if missing:
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise FileNotFoundError(
            f'{folder} has no images (.png, .jpg) of class {", ".join(missing[:3])}{more}; '
            f'it has {len(classes) - len(missing)} of {len(classes)} classes'
        )
    return files, np.array(labels, dtype=np.int64), digest.hexdigest()[:32]


def _decode(files: Sequence[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Decode every file; one thread is the fastest at this size, for the interpreter's lock."""
    images = np.empty((len(files), *shape), dtype=np.uint8)
    for position, path in enumerate(files):
        try:
            if not path.is_file():
                raise OSError('it is no file, or a link to none')  # a pipe would be waited for
            with Image.open(path) as image:
                pixels = np.asarray(image.convert('RGB'))  # (H, W, 3)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = 'unknown format' if isinstance(error, UnidentifiedImageError) else error
            raise ValueError(f'{path} is not a readable image ({reason}): replace or remove it') from error
        if pixels.shape[:2] != shape[1:]:
            height, width = pixels.shape[:2]
            raise ValueError(f'{path} is {height}x{width} pixels, expected {shape[1]}x{shape[2]}')
        images[position] = pixels.transpose(2, 0, 1)
    return images


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read a cached array; None where there is none or it is damaged."""
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.dtype == np.uint8 and images.shape == shape else None


def _store(path: Path, images: np.ndarray, place: str) -> None:
    """Keep the array, and drop what was kept of the same folder's earlier contents."""
    try:
        replace_file(path, lambda file: np.save(file, images))
        for old in path.parent.glob(f'{place}-*.npy'):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        print_log(f'decoded images are not kept: {error}', 'current', WARNING)
