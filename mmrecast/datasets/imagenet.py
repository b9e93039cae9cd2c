"""ILSVRC 2012 (ImageNet-1k): mmpretrain's dataset, checked when it is built and augmented the same at every resume."""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine import fileio
from mmpretrain.datasets import ImageNet as _ImageNet
from mmpretrain.datasets.custom import find_folders, get_samples
from PIL import Image, UnidentifiedImageError
from torch.utils.data import get_worker_info

from mmrecast.registry import DATASETS


@DATASETS.register_module()
class ImageNet(_ImageNet):
    """`ILSVRC 2012 <https://www.image-net.org>`_: 1,281,167 training and 50,000 validation images of 1,000 classes.

    Under ``data_root``, a split is ``<split>/<class>/*.JPEG`` (classes are numbered in the order of their folders'
    names), or ``<split>/*.JPEG`` with a line ``FILE LABEL`` for each in ``meta/<split>.txt``, which is used where it
    exists. What happens to an image at random depends on ``seed``, the epoch and the image only: it is the same for
    any batch size and number of workers or processes, and in a run that is resumed.

    Args:
        data_root (str | Path): Folder of the data.
        split (str): ``'train'`` or ``'val'``. Defaults to ``'train'``.
        seed (int): Seed of the transforms. Defaults to 0.
        **kwargs: Further arguments of mmpretrain's dataset: ``pipeline``, ``indices`` (of a subset), ``metainfo``
            (``dict(classes=…)``, where there are others than the thousand).

    Raises:
        FileNotFoundError: There is no such folder, or no image of a class.
        ValueError: Unknown split, another number of class folders than of classes, or a wrong line in the list.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', seed: int = 0, **kwargs) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f"ImageNet: split={split!r}, expected 'train' or 'val'")
        self.seed, self.split = int(seed), split
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers may live for many epochs
        super().__init__(data_root=str(Path(data_root).expanduser()), split=split, **kwargs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch (from 0), in worker processes, too."""
        self._epoch.fill_(epoch)

    def prepare_data(self, idx: int) -> dict:
        """Load and transform image number ``idx``.

        Raises:
            ValueError: It cannot be read, or not be transformed.
        """
        path = self.get_data_info(idx)['img_path']
        try:
            _check_image(path)
            with _numbers_of(self.seed, int(self._epoch), idx):
                return super().prepare_data(idx)
        except Exception as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ValueError(f'{path} cannot be used: {reason}') from error

    def load_data_list(self) -> list[dict]:
        """Return path and label of every image; mmpretrain calls it when the dataset is built."""
        if not fileio.isdir(self.img_prefix):
            root = Path(self.data_root)
            held = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else None
            state = 'does not exist' if held is None else f'has {", ".join(held[:3])}' if held else 'is empty'
            raise FileNotFoundError(
                f'there is no folder {self.img_prefix} of ImageNet ({root} {state}): expected '
                f'{self.split}/<class>/*.JPEG, or {self.split}/*.JPEG and meta/{self.split}.txt'
            )
        if not self.ann_file:
            return super().load_data_list()
        try:
            samples = super().load_data_list()
        except ValueError as error:
            raise ValueError(f'{self.ann_file}: every line must be FILE LABEL ({error})') from error
        outside = [s['gt_label'] for s in samples if not 0 <= s['gt_label'] < len(self.CLASSES)]
        if outside:
            raise ValueError(f'{self.ann_file} has label {outside[0]}, expected 0 to {len(self.CLASSES) - 1}')
        if not samples or not fileio.exists(samples[0]['img_path']):
            first = f'which is not there: {samples[0]["img_path"]}' if samples else 'none'
            raise FileNotFoundError(f'{self.ann_file} lists as its first image {first}')
        return samples

    def _find_samples(self) -> list[tuple[str, int]]:
        """Return path (below the split's folder) and label of every image in class folders."""
        folders, self.folder_to_idx = find_folders(self.img_prefix)
        if len(folders) != len(self.CLASSES):
            hint = f'has {len(folders)} folders' + (f' ({", ".join(folders[:3])}, …)' if folders else '')
            raise ValueError(
                f'{self.img_prefix} {hint}, expected one per class, {len(self.CLASSES)}; '
                f'without such folders, meta/{self.split}.txt must list the images'
            )
        try:
            samples, empty = get_samples(self.img_prefix, self.folder_to_idx, self.is_valid_file)
        except OSError as error:  # a link to itself, a folder that may not be read
            raise OSError(f'{error.filename} cannot be read ({error.strerror}): remove it, or give access') from error
        if empty:
            names = sorted(empty)
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            raise FileNotFoundError(
                f'{self.img_prefix} has no images ({", ".join(sorted(self.extensions))}) of class '
                f'{", ".join(names[:3])}{more}; it has {len(folders) - len(names)} of {len(folders)} classes'
            )
        return samples


def _check_image(path: str) -> None:
    """Look at an image's head: a pipe would be waited for, and a small file can stand for a huge image.

    Raises:
        OSError: It is no file, or no image.
        Image.DecompressionBombError: It has more than some 180 million pixels.
    """
    if '://' in path:  # not on this machine
        return
    if not os.path.isfile(path):
        raise OSError('it is no file; remove it')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            Image.open(path).close()
    except UnidentifiedImageError:
        raise OSError('it is no image that can be read; replace or remove it') from None


@contextmanager
def _numbers_of(*key: int) -> Iterator[None]:
    """Let the global random generators give the numbers of ``key`` meanwhile (in a worker: from now on)."""
    own = get_worker_info() is None  # a worker does nothing else with them
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if own else ()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.random.default_generator.manual_seed(int(words[0]))
    try:
        yield
    finally:
        if own:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
