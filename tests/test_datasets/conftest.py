"""Stand-ins for CIFAR in the true formats (Python 2 pickles, tar.gz, tree), and a naive crop and flip."""

import dataclasses
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrecast.datasets import CIFAR10, CIFAR100


def _text(value: bytes) -> bytes:
    """Opcode of a Python 2 string."""
    return b'T' + struct.pack('<I', len(value)) + value


def _whole(value: int) -> bytes:
    return b'J' + struct.pack('<i', value)


def python2_pickle(images: np.ndarray, labels: list[int], label_key: str) -> bytes:
    """Write a batch, opcode by opcode, as Python 2.7 with numpy did (protocol 2), which no Python 3 does."""
    dtype = b'cnumpy\ndtype\n(' + _text(b'u1') + _whole(0) + _whole(1) + b'tR'
    dtype += b'(' + _whole(3) + _text(b'|') + b'NNN' + _whole(-1) + _whole(-1) + _whole(0) + b'tb'
    array = b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(' + _whole(0) + b't' + _text(b'b') + b'tR'
    array += b'(' + _whole(1) + b'(' + _whole(len(images)) + _whole(3072) + b't' + dtype + b'\x89'
    array += _text(images.tobytes()) + b'tb'
    label = b'](' + b''.join(map(_whole, labels)) + b'e'
    items = _text(b'data') + array + _text(label_key.encode()) + label + _text(b'batch_label') + _text(b'stand-in')
    return b'\x80\x02}(' + items + b'u.'


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class StandIn:
    """Random images of every class, and the ways in which they are published."""

    def __init__(self, cls: type[CIFAR10], per_class: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.cls, self.images, self.labels, self.files = cls, {}, {}, {}
        for split, batches in cls.official.batches.items():
            labels = np.repeat(np.arange(len(cls.classes)), per_class * len(batches))
            self.labels[split] = rng.permutation(labels)
            self.images[split] = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
            parts = zip(
                batches,
                np.split(self.images[split], len(batches)),
                np.split(self.labels[split], len(batches)),
                strict=True,
            )
            for name, images, part in parts:
                self.files[name] = python2_pickle(images, part.tolist(), cls.official.label_key)
        self.archive = self.with_md5(self.files)

    md5 = staticmethod(md5)

    def with_md5(self, files: dict[str, bytes]):
        """Describe ``files`` as an official archive, every md5 being theirs."""
        batches = {
            split: {name: md5(files[name]) for name in batches} for split, batches in self.cls.official.batches.items()
        }
        archive = dataclasses.replace(self.cls.official, batches=batches)
        return dataclasses.replace(archive, md5=md5(self.tar_bytes(files)))

    def tar_bytes(self, files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f'{self.cls.official.folder}/{name}')
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        content = bytearray(buffer.getvalue())
        content[4:8] = bytes(4)  # the time in gzip's header would change the md5
        return bytes(content)

    def write_folder(self, root: Path) -> Path:
        folder = root / self.cls.official.folder
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder

    def write_tar(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        path = root / self.cls.official.filename
        path.write_bytes(self.tar_bytes(self.files))
        return path

    def write_tree(self, root: Path, suffix: str = '.png') -> Path:
        for split in self.images:
            for index, (image, label) in enumerate(zip(self.images[split], self.labels[split], strict=True)):
                folder = root / split / self.cls.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.transpose(1, 2, 0)).save(folder / f'{index:05d}{suffix}')
        return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Keep the tests out of the user's cache."""
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    return folder / 'mmrecast-decoded'


@pytest.fixture
def naive_crop_flip() -> Callable[[np.ndarray, int, int, bool, int], np.ndarray]:
    """Return the crop and flip of one image in float64, pixel by pixel."""

    def loop(image: np.ndarray, top: int, left: int, flipped: bool, padding: int) -> np.ndarray:
        channels, height, width = image.shape
        out = np.zeros((channels, height, width), dtype=np.float64)
        for y in range(height):
            for x in range(width):
                row = y + top - padding
                column = (width - 1 - x if flipped else x) + left - padding
                if 0 <= row < height and 0 <= column < width:
                    out[:, y, x] = image[:, row, column]
        return out

    return loop


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=['cifar10', 'cifar100'])
def any_stand_in(request, monkeypatch) -> StandIn:
    stand_in = StandIn(request.param, per_class=2)
    monkeypatch.setattr(request.param, 'official', stand_in.archive)
    return stand_in


@pytest.fixture
def make_stand_in() -> type[StandIn]:
    return StandIn


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    stand_in = StandIn(CIFAR10, per_class=3)
    monkeypatch.setattr(CIFAR10, 'official', stand_in.archive)
    return stand_in
