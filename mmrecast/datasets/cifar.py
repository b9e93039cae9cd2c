"""CIFAR-10 and CIFAR-100, from the official batches or from a tree of images."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from mmengine import dist

from mmrecast.registry import DATASETS

from .base import TensorDataset
from .download import download as download_file
from .folder import read_tree
from .official import OfficialArchive, read_folder, read_tar

IMAGE_SHAPE = (3, 32, 32)
SPLITS = ('train', 'test')


@DATASETS.register_module()
class CIFAR10(TensorDataset):
    """`CIFAR-10 <https://www.cs.toronto.edu/~kriz/cifar.html>`_: 60,000 colour images of 32x32, ten classes.

    Under ``data_root`` the data are found in any of these forms, the first one there being taken:
    ``cifar-10-batches-py/`` (or ``data_root`` is that folder), ``cifar-10-python.tar.gz``, and images as
    ``train/<class>/*.{png,jpg}`` and ``test/<class>/*.{png,jpg}``. A tree is decoded once and cached.

    Args:
        data_root (str | Path): Folder of the data.
        split (str): ``'train'`` or ``'test'``. Defaults to ``'train'``.
        num_samples (int | None): Keep a class-balanced subset of this size. Defaults to None, all.
        download (bool): Whether to fetch the tar.gz where none of these is found. Defaults to False.

    Raises:
        FileNotFoundError: There is no data, or a batch or a class is missing.
        ValueError: Unknown split, a damaged file, a folder that is no class, or ``num_samples`` too large.
        OSError: The download failed.
    """

    official: ClassVar[OfficialArchive] = OfficialArchive(
        url='https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz',
        md5='c58f30108f718f92721af3b95e74349a',
        folder='cifar-10-batches-py',
        batches=dict(
            train=dict(
                data_batch_1='c99cafc152244af753f735de768cd75f',
                data_batch_2='d4bba439e000b95fd0a9bffe97cbabec',
                data_batch_3='54ebc095f3ab1f0389bbae665268c751',
                data_batch_4='634d18415352ddfa80567beed471001a',
                data_batch_5='482c414d41f54cd18b22e5b47cb7c3cb',
            ),
            test=dict(test_batch='40351d587109b95175f43aff81a1287e'),
        ),
        label_key='labels',
    )
    classes: ClassVar[tuple[str, ...]] = (
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck',
    )  # fmt: skip

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        num_samples: int | None = None,
        download: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"{type(self).__name__}: split={split!r}, expected 'train' or 'test'")
        self.data_root, self.split = Path(data_root).expanduser(), split
        images, labels = self._read(download)
        super().__init__(images, labels, self.classes, num_samples)

    def _read(self, download: bool) -> tuple[np.ndarray, np.ndarray]:
        root, official = self.data_root, self.official
        tar = root / official.filename
        folders = [folder for folder in (root / official.folder, root) if self._has_batch(folder)]
        whole = [folder for folder in folders if all((folder / name).is_file() for name in official.files)]
        trees = [split for split in SPLITS if (root / split).is_dir()]
        if whole:
            return read_folder(official, whole[0], self.split)
        if tar.is_file():
            return read_tar(official, tar, self.split)
        if trees:
            if self.split not in trees:
                raise FileNotFoundError(f'{root} has {trees[0]}/ but no {self.split}/ with one folder per class')
            return read_tree(root / self.split, self.classes, IMAGE_SHAPE)
        if download:
            if dist.is_main_process():
                download_file(official.url, tar, official.md5)
            dist.barrier()
            if not tar.is_file():  # another machine, without the first one's disk
                download_file(official.url, tar, official.md5)
            return read_tar(official, tar, self.split)
        if folders:
            return read_folder(official, folders[0], self.split)  # says what is missing
        held = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else None
        state = 'does not exist' if held is None else f'has {", ".join(held[:3])}' if held else 'is empty'
        raise FileNotFoundError(
            f'no {type(self).__name__} under {root} (which {state}): expected {official.folder}/, '
            f'{official.filename}, or train/<class>/*.png|jpg and test/<class>/*.png|jpg; '
            f'download=True in the dataset config fetches {official.url}'
        )

    def _has_batch(self, folder: Path) -> bool:
        return any((folder / name).is_file() for name in self.official.files)


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """`CIFAR-100 <https://www.cs.toronto.edu/~kriz/cifar.html>`_: one hundred classes, the fine labels.

    Arguments, forms, errors are those of :class:`CIFAR10`; the official names are ``cifar-100-python/`` and
    ``cifar-100-python.tar.gz``.
    """

    official: ClassVar[OfficialArchive] = OfficialArchive(
        url='https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz',
        md5='eb9058c3a382ffc7106e4002c42a8d85',
        folder='cifar-100-python',
        batches=dict(
            train=dict(train='16019d7e3df5f24257cddd939b257f8d'),
            test=dict(test='f0ef6b0ae62326f3e7ffdfab6717acfc'),
        ),
        label_key='fine_labels',
    )
    classes: ClassVar[tuple[str, ...]] = (
        'apple', 'aquarium_fish', 'baby', 'bear', 'beaver', 'bed', 'bee', 'beetle', 'bicycle', 'bottle',
        'bowl', 'boy', 'bridge', 'bus', 'butterfly', 'camel', 'can', 'castle', 'caterpillar', 'cattle',
        'chair', 'chimpanzee', 'clock', 'cloud', 'cockroach', 'couch', 'crab', 'crocodile', 'cup',
        'dinosaur', 'dolphin', 'elephant', 'flatfish', 'forest', 'fox', 'girl', 'hamster', 'house',
        'kangaroo', 'keyboard', 'lamp', 'lawn_mower', 'leopard', 'lion', 'lizard', 'lobster', 'man',
        'maple_tree', 'motorcycle', 'mountain', 'mouse', 'mushroom', 'oak_tree', 'orange', 'orchid',
        'otter', 'palm_tree', 'pear', 'pickup_truck', 'pine_tree', 'plain', 'plate', 'poppy', 'porcupine',
        'possum', 'rabbit', 'raccoon', 'ray', 'road', 'rocket', 'rose', 'sea', 'seal', 'shark', 'shrew',
        'skunk', 'skyscraper', 'snail', 'snake', 'spider', 'squirrel', 'streetcar', 'sunflower',
        'sweet_pepper', 'table', 'tank', 'telephone', 'television', 'tiger', 'tractor', 'train', 'trout',
        'tulip', 'turtle', 'wardrobe', 'whale', 'willow_tree', 'wolf', 'woman', 'worm',
    )  # fmt: skip
