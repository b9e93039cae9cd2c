"""The handwritten digits that come with scikit-learn: data that needs no download."""

import numpy as np
import torch
from torch.nn import functional as F

from mmrecast.registry import DATASETS

from .base import TensorDataset

SIDE = 8
TEST_IMAGES = 360


@DATASETS.register_module()
class Digits(TensorDataset):
    """1,797 grey images of ten digits: 1,437 for training and 360 for testing, the same split always.

    The 17 grey levels are spread over 0..255.

    Args:
        split (str): ``'train'`` or ``'test'``. Defaults to ``'train'``.
        size (int): Height and width of the images; above 8 they are enlarged bilinearly. Defaults to 8.
        num_samples (int | None): Keep a class-balanced subset of this size. Defaults to None, all.

    Raises:
        ValueError: Unknown split, ``size`` below 8, or ``num_samples`` too large.
        ModuleNotFoundError: scikit-learn is not installed.
    """

    def __init__(self, split: str = 'train', size: int = SIDE, num_samples: int | None = None) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"Digits: split={split!r}, expected 'train' or 'test'")
        if isinstance(size, bool) or not isinstance(size, int) or size < SIDE:
            raise ValueError(f'Digits: size={size!r}, expected a whole number of at least {SIDE}')
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('Digits needs scikit-learn: pip install scikit-learn') from error
        levels, labels = load_digits(return_X_y=True)
        indices = np.arange(len(labels))
        train, test = train_test_split(indices, test_size=TEST_IMAGES, stratify=labels, random_state=0)
        keep = np.sort(train if split == 'train' else test)
        images = torch.from_numpy(levels[keep] * (255 / 16)).reshape(-1, 1, SIDE, SIDE)
        if size != SIDE:
            images = F.interpolate(images, size=(size, size), mode='bilinear', align_corners=False)
        images = images.round().to(torch.uint8).numpy()
        super().__init__(images, labels[keep], [str(digit) for digit in range(10)], num_samples)
        self.split = split
