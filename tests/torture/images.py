"""Images that are none, or hardly any, as the folder data sets meet them."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader
from torture.attack import Attack
from torture.limits import apart, in_time
from torture.places import refusal

from mmrecast.datasets import ImageNet
from mmrecast.datasets.folder import read_tree

SIZE = 32


def encoded(mode: str = 'RGB', form: str = 'JPEG', size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    """Return an encoded image of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels[..., :3]).convert(mode) if mode != 'RGBA' else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def _deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), 40000, np.uint16)).save(file, 'PNG')
    return file.getvalue()


def _png(width: int, height: int, rows: int) -> bytes:
    """Return a PNG whose head promises more pixels than are meant to be decoded."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    packed = zlib.compressobj(9)
    row = bytes(3 * width + 1)
    data = b''.join(packed.compress(row) for _ in range(rows)) + packed.flush()
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 40]) + data[middle + 40 :]


BAD: dict[str, tuple[str, Callable[[], bytes]]] = {  # what no reader may take: the name's ending and the bytes
    'no bytes': ('.png', bytes),
    'one byte': ('.jpg', lambda: b'\xff'),
    'text': ('.jpg', lambda: b'I am no image.\n'),
    'a page': ('.png', lambda: b'<!doctype html><html></html>'),
    'a pickle': ('.png', lambda: b'\x80\x04cos\nsystem\n(S"true"\ntR.'),
    'a zip': ('.jpg', lambda: b'PK\x03\x04' + bytes(200)),
    'zeros': ('.png', lambda: bytes(4096)),
    'the head of a PNG': ('.png', lambda: encoded(form='PNG')[:20]),
    'half a PNG': ('.png', lambda: encoded(form='PNG')[:1500]),
    'a flipped PNG': ('.png', lambda: _flipped(encoded(form='PNG'))),
    'the head of a JPEG': ('.jpg', lambda: encoded()[:100]),
    'a JPEG without its head': ('.jpg', lambda: encoded()[50:]),
    'a bomb of 4 billion pixels': ('.png', lambda: _png(65535, 65535, 100)),
    'a bomb of 400 million pixels': ('.png', lambda: _png(20000, 20000, 10)),
    'a PNG of 2^31 rows': ('.png', lambda: _png(32, 2**31 - 1, 10)),
    'a PNG of no rows': ('.png', lambda: _png(32, 0, 0)),
}
GOOD: dict[str, tuple[str, Callable[[], bytes]]] = {  # odd ones that are images of 32x32
    'grey JPEG': ('.jpg', lambda: encoded('L')),
    'CMYK': ('.jpg', lambda: encoded('CMYK')),
    'palette': ('.png', lambda: encoded('P', 'PNG')),
    'one bit': ('.png', lambda: encoded('1', 'PNG')),
    'transparent': ('.png', lambda: encoded('RGBA', 'PNG')),
    '16 bits': ('.png', _deep),
    'a PNG named .jpg': ('.jpg', lambda: encoded(form='PNG')),
}


def as_pipe(path: Path) -> None:
    """Put a pipe at ``path``, whose reader would wait for ever."""
    os.mkfifo(path)


def as_loop(path: Path) -> None:
    """Put a link to itself at ``path``."""
    path.symlink_to(path)


def as_nothing(path: Path) -> None:
    """Put a link to nothing at ``path``."""
    path.symlink_to(path.parent / 'gone')


def as_folder(path: Path) -> None:
    """Put a folder at ``path``."""
    path.mkdir()


def as_forbidden(path: Path) -> None:
    """Put a device at ``path`` that gives bytes without end."""
    path.symlink_to('/dev/zero')


PLACED = dict(pipe=as_pipe, loop=as_loop, nothing=as_nothing, folder=as_folder, device=as_forbidden)


def _tree(folder: Path, suffix: str, place: Callable[[Path], object]) -> Path:
    """Make a tree of two classes with a sound image each, and one more made by ``place``; return that one's path."""
    for name in ('cat', 'dog'):
        (folder / 'train' / name).mkdir(parents=True)
        (folder / 'train' / name / 'a.png').write_bytes(encoded(form='PNG'))
    path = folder / 'train' / 'cat' / f'b{suffix}'
    place(path)
    return path


def _attack(name: str, reader: str, workers: int, folder: Path) -> None:
    table = BAD if name in BAD else GOOD
    suffix, make = table.get(name, ('.png', None))
    path = _tree(folder, suffix, (lambda p: p.write_bytes(make())) if make else PLACED[name])
    os.environ['XDG_CACHE_HOME'] = str(folder / 'cache')

    def read() -> None:
        if reader == 'tree':
            images, _ = read_tree(folder / 'train', ('cat', 'dog'), (3, 32, 32))
            assert images.shape == (3, 3, 32, 32)
            return
        pipeline = [dict(type='mmpretrain.LoadImageFromFile')]
        data = ImageNet(folder, pipeline=pipeline, metainfo=dict(classes=('cat', 'dog')))
        for sample in DataLoader(data, batch_size=None, num_workers=workers):
            assert np.asarray(sample['img']).shape == (32, 32, 3)

    with in_time():
        if name in GOOD or (
            name in PLACED and reader == 'ImageNet' and name != 'loop'
        ):  # which lists nothing but files
            read()
        elif workers and name != 'loop':
            try:
                read()
            except (ValueError, OSError) as error:  # torch passes it on with the worker's traceback
                assert path.name in str(error), error
            else:
                raise AssertionError('it was taken')
        else:
            apart(lambda: _named(refusal(read), path.name), 1 << 30)


def _named(line: str, name: str) -> None:
    assert name in line, line


READ = [(name, 'tree', 0) for name in (*BAD, *GOOD, *PLACED)]
# OpenCV takes what it can of a JPEG or PNG that ends early; a folder is none of ImageNet's images
LENIENT = ('half a PNG', 'a flipped PNG', 'the head of a PNG', 'folder')
READ += [(name, 'ImageNet', 0) for name in (*BAD, *GOOD, *PLACED) if name not in LENIENT]
READ += [(name, 'ImageNet', 1) for name in ('text', 'a bomb of 4 billion pixels', 'no bytes', 'pipe', 'loop')]


SHORT = ('no bytes', 'half a PNG', 'a bomb of 4 billion pixels', 'CMYK', '16 bits', 'pipe')
IMAGES = [
    Attack(
        f'an image, read from {"a tree" if reader == "tree" else "ImageNet"}{" by a worker" if workers else ""}',
        partial(_attack, name, reader, workers),
        short=name in SHORT,
    )
    for name, reader, workers in READ
]
