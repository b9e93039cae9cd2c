"""Measure the data path, alone and beside training: CIFAR in memory, and a folder of JPEGs cropped to 224x224.

On CIFAR, whole-batch augmentation is compared with mmpretrain's per-image pipeline: both crop (4-pixel padding), flip
and normalise the same uint8 images, in batches of one size and in one process, and take turns of equal length. The
JPEGs are random ones of a size of ImageNet's, written for the occasion; their path is that of the ImageNet configs, by
number of workers. Beside training, both are a share of the step in which ResNet-56 and ResNet-18 are recast into
convolutions: of the first block's, the cheapest there is, and of fine-tuning's.

    OMP_NUM_THREADS=1 python tools/benchmarks/data_pipeline.py --out docs/results/data_pipeline.json
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from conditions import conditions
from data_share import Share, shares
from jpeg_tree import jpeg_path, write_tree
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.tables import render_table
from mmrecast.datasets import TensorDataset
from mmrecast.registry import MODELS
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

RESNET56 = Path(__file__).resolve().parents[2] / 'configs/distill/_base_/models/resnet56_cifar10.py'
RESNET18 = dict(type='TorchvisionClassifier', name='resnet18')
CROP = 224  # pixels of the JPEGs' configs

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


def rate(batches: Iterable[dict], preprocessor: nn.Module, seconds: float) -> float:
    """Return the images per second of a loader and the preprocessor together, measured for ``seconds``."""
    start, images = time.perf_counter(), 0
    while True:
        for batch in batches:
            images += len(preprocessor(batch, training=True)['inputs'])
            passed = time.perf_counter() - start
            if passed >= seconds:
                return images / passed


def cifar(images: int, batch_size: int, turns: int, seconds: float, steps: int) -> tuple[dict, list[Share]]:
    """Measure images in memory: rates and their ratio, and the shares of ResNet-56's steps."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, images)
    with DefaultScope.overwrite_default_scope('mmrecast'):
        pipelines = [build(pixels, labels, batch_size) for build in (ours, mmpretrains)]
    for pipeline in pipelines:  # the first turn pays for imports and memory
        rate(*pipeline, seconds)
    rates = [[rate(*pipeline, seconds) for pipeline in pipelines] for _ in range(turns)]
    ours_rate, theirs_rate = (median(column) for column in zip(*rates, strict=True))
    ratios = sorted(one / other for one, other in rates)
    result = dict(
        mmrecast_images_per_second=round(ours_rate),
        mmpretrain_images_per_second=round(theirs_rate),
        ratio=round(median(ratios), 1),
        ratio_range=[round(ratios[0], 1), round(ratios[-1], 1)],
    )
    beside = shares(read_config(RESNET56).teacher, 'backbone.layer*.*', pipelines[0], [0, -1], steps)
    return result, beside


def jpegs(
    count: int, size: Sequence[int], workers: Sequence[int], batch_size: int, turns: int, seconds: float, steps: int
) -> tuple[dict, list[Share]]:
    """Measure a folder of JPEGs: rates by number of workers, and the shares of ResNet-18's steps."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_tree(Path(folder), count, *size)
        sizes = [path.stat().st_size for path in root.rglob('*.JPEG')]
        rates, beside = {}, []
        for number in workers:
            path = jpeg_path(root, batch_size, number)
            batches = iter(path[0])
            rate(batches, path[1], seconds)  # workers start and fill their queues
            rates[number] = round(median(rate(batches, path[1], seconds) for _ in range(turns)), 1)
            del batches
            beside += shares(RESNET18, 'layer*.*', path, [0, -1], steps)
    about = dict(files=count, pixels=list(size), mean_kilobytes=round(sum(sizes) / len(sizes) / 1000, 1), crop=CROP)
    return about | dict(batch_size=batch_size, images_per_second_by_workers=rates), beside


def table(beside: dict[str, Sequence[Share]]) -> str:
    """Return one row per data path and stage."""
    columns = ['data', 'stage', 'workers', 'batch', 'images/s', 'data, ms', 'step, ms', 'share']
    rows = [
        [name, s.stage, s.workers, s.batch_size, f'{s.images_per_second:.0f}', f'{s.data_ms:.1f}', f'{s.step_ms:.0f}',
         f'{100 * s.share:.1f} %']
        for name, own in beside.items() for s in own
    ]  # fmt: skip
    return render_table(columns, rows, right=columns[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=50_000, help='images in memory (50000)')
    parser.add_argument('--batch-size', type=int, default=128, help='of these (128)')
    parser.add_argument('--jpegs', type=int, default=256, help='files; 0 measures none (256)')
    parser.add_argument('--jpeg-size', nargs=2, type=int, default=(500, 375), help='width and height (500 375)')
    parser.add_argument('--jpeg-batch-size', type=int, default=16, help='of these (16)')
    parser.add_argument('--workers', nargs='+', type=int, default=(0, 1, 2), help='for the files (0 1 2)')
    parser.add_argument('--turns', type=int, default=5, help='turns of each; their median counts (5)')
    parser.add_argument('--seconds', type=float, default=1.0, help='length of a turn (1)')
    parser.add_argument('--steps', type=int, default=3, help='training steps of each stage beside which (3)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(
            turns=args.turns, steps=args.steps, batch_size=args.batch_size, jpeg_batch_size=args.jpeg_batch_size
        )
        if args.batch_size > args.images or min(args.workers) < 0:
            raise ValueError(
                f'expected at least one batch of --images and --workers of at least 0, got {args.images} images in '
                f'batches of {args.batch_size} and {min(args.workers)} workers'
            )
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        torch.manual_seed(0)
        result, beside = cifar(args.images, args.batch_size, args.turns, args.seconds, args.steps)
        beside = dict(cifar=beside)
        spread = f'{result["ratio_range"][0]} to {result["ratio_range"][1]} over {args.turns} turns'
        print(
            f'CIFAR, images per second: {result["mmrecast_images_per_second"]:,} whole batches, '
            f'{result["mmpretrain_images_per_second"]:,} per image (mmpretrain); ratio {result["ratio"]} ({spread})'
        )
        if args.jpegs:
            size, timed = args.jpeg_size, (args.turns, args.seconds, args.steps)
            files, beside['jpeg'] = jpegs(args.jpegs, size, args.workers, args.jpeg_batch_size, *timed)
            rates = ', '.join(f'{r:.0f} ({n} workers)' for n, r in files['images_per_second_by_workers'].items())
            print(f'JPEGs of {size[0]}x{size[1]}, images per second: {rates}')
            result['jpeg'] = files
        print(table(beside).rstrip())
        about = conditions() | dict(
            seed=0, images=args.images, batch_size=args.batch_size, turns=args.turns, seconds_per_turn=args.seconds,
        )  # fmt: skip
        if args.out:
            shown = {name: [asdict(share) for share in own] for name, own in beside.items()}
            write_json(about | result | dict(beside_training=shown), args.out)


if __name__ == '__main__':
    main()
