"""Compare the images per second of whole-batch augmentation with those of mmpretrain's per-image pipeline.

Both crop (4-pixel padding), flip and normalise the same in-memory uint8 images, in batches of one size and in
one process, and take turns of equal length within one run.

Example: ``OMP_NUM_THREADS=1 python tools/benchmarks/data_pipeline.py --out docs/results/data_pipeline.json``
"""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmrecast.datasets import TensorDataset
from mmrecast.engine.hooks import machine
from mmrecast.registry import MODELS
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.setup_env import register_all_modules

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def ours(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tuple[DataLoader, nn.Module]:
    """Build the loader and the preprocessor of this package's CIFAR configs on images (N, 3, 32, 32)."""
    dataset = TensorDataset(images, labels, [str(n) for n in range(10)])
    collate = dict(type='mmrecast.batch_collate')
    preprocessor = dict(type='BatchPreprocessor', mean=MEAN, std=STD, crop_padding=4, flip=True)
    return _loader(dataset, batch_size, collate_fn=collate), MODELS.build(preprocessor)


def mmpretrains(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tuple[DataLoader, nn.Module]:
    """Build the loader and the preprocessor of mmpretrain's CIFAR-10 config on the same images."""
    from mmpretrain.datasets import BaseDataset

    class InMemory(BaseDataset):
        METAINFO = dict(classes=[str(n) for n in range(10)])

        def load_data_list(self) -> list[dict]:
            rows = images.transpose(0, 2, 3, 1)  # (N, H, W, 3), as mmpretrain's CIFAR10 keeps them
            return [dict(img=image, gt_label=int(label)) for image, label in zip(rows, labels, strict=True)]

    pipeline = [
        dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
        dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='mmpretrain.PackInputs'),
    ]
    dataset = InMemory(ann_file='', pipeline=pipeline)
    preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=MEAN, std=STD, to_rgb=False)
    return _loader(dataset, batch_size), MODELS.build(preprocessor)


def _loader(dataset, batch_size: int, **changes) -> DataLoader:
    sampler = dict(type='DefaultSampler', shuffle=True)
    config = dict(batch_size=batch_size, num_workers=0, dataset=dataset, sampler=sampler, drop_last=True, **changes)
    return Runner.build_dataloader(config, seed=0)


def rate(loader: DataLoader, preprocessor: nn.Module, seconds: float) -> float:
    """Return the images per second of the loader and the preprocessor together, measured for ``seconds``."""
    start, images = time.perf_counter(), 0
    while True:
        for batch in loader:
            images += len(preprocessor(batch, training=True)['inputs'])
            passed = time.perf_counter() - start
            if passed >= seconds:
                return images / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=50_000, help='images in memory (default: 50000)')
    parser.add_argument('--batch-size', type=int, default=128, help='images per batch (default: 128)')
    parser.add_argument('--turns', type=int, default=7, help='turns of each; their median counts (default: 7)')
    parser.add_argument('--seconds', type=float, default=1.0, help='length of a turn (default: 1)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    if args.turns < 1 or not 1 <= args.batch_size <= args.images:
        parser.error('expected --turns of at least 1 and 1 <= --batch-size <= --images')

    register_all_modules()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.images, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, args.images)
    with DefaultScope.overwrite_default_scope('mmrecast'):
        pipelines = [build(images, labels, args.batch_size) for build in (ours, mmpretrains)]
    for pipeline in pipelines:  # the first turn pays for imports and memory
        rate(*pipeline, args.seconds)
    turns = [[rate(*pipeline, args.seconds) for pipeline in pipelines] for _ in range(args.turns)]
    ours_rate, theirs_rate = (median(column) for column in zip(*turns, strict=True))
    ratios = sorted(one / other for one, other in turns)
    threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
    result = dict(
        command=f'{threads}python {shlex.join(sys.argv)}',
        machine=machine(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        images=args.images,
        batch_size=args.batch_size,
        turns=args.turns,
        seconds_per_turn=args.seconds,
        load_average=os.getloadavg()[0],
        mmrecast_images_per_second=round(ours_rate),
        mmpretrain_images_per_second=round(theirs_rate),
        ratio=round(median(ratios), 1),
        ratio_range=[round(ratios[0], 1), round(ratios[-1], 1)],
    )
    spread = f'{result["ratio_range"][0]} to {result["ratio_range"][1]} over {args.turns} turns'
    print(
        f'images per second: {ours_rate:,.0f} whole batches, {theirs_rate:,.0f} per image (mmpretrain); '
        f'ratio {result["ratio"]} ({spread})'
    )
    if args.out:
        write_json(result, args.out)


if __name__ == '__main__':
    main()
