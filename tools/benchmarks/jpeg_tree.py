"""A tree of JPEGs like ImageNet's: smooth random colours under some noise, of about the same pixels and bytes."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from mmrecast.registry import DATASETS, FUNCTIONS, MODELS
from mmrecast.utils.config_file import read_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs/distill/_base_/datasets/imagenet.py'
CLASSES, QUALITY, NOISE = 4, 95, 6  # of the files; at 500x375 they have about 100 kB


def write_tree(root: Path, images: int, width: int, height: int) -> Path:
    """Write ``root/train/<class>/*.JPEG``.

    Args:
        root (Path): A folder.
        images (int): How many, at least one per class.
        width (int): Pixels.
        height (int): Pixels.
    """
    rng = np.random.default_rng(0)
    for number in range(images):
        folder = root / 'train' / f'class{number % CLASSES}'
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        noisy = (smooth + rng.normal(0, NOISE, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f'{number}.JPEG', quality=QUALITY)
    return root


def jpeg_path(root: Path, batch_size: int, workers: int) -> tuple[DataLoader, nn.Module]:
    """Return the loader and the preprocessor of the ImageNet configs on a tree; the loader does not end.

    Args:
        root (Path): From `write_tree`.
        batch_size (int): Images of a batch.
        workers (int): Processes that decode; 0 for this one.
    """
    cfg = read_config(CONFIG)
    metainfo = dict(classes=[f'class{n}' for n in range(CLASSES)])
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, data_root=str(root), metainfo=metainfo))
    loader = DataLoader(
        dataset, batch_size, sampler=RandomSampler(dataset, replacement=True, num_samples=10**9), num_workers=workers,
        persistent_workers=workers > 0, collate_fn=FUNCTIONS.get(cfg.train_dataloader.collate_fn.type),
    )  # fmt: skip
    return loader, MODELS.build(cfg.data_preprocessor)
