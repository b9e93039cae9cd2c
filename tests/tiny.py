"""A recasting problem that trains in a second, for tests; commands in subprocesses import it, too."""

import copy
import os
import signal
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmrecast.apis import train
from mmrecast.registry import BLOCKS, HOOKS, MODELS
from mmrecast.utils.checkpoint import load_file

SHAPE = (1, 8, 8)
STEM = ['backbone.conv1', 'backbone.bn1']
CHAIN = [f'backbone.layer{stage}.{block}' for stage in (1, 2, 3) for block in (0, 1)]  # of depth 14
NO_VAL = dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))
NO_TEST = dict.fromkeys(('test_dataloader', 'test_cfg', 'test_evaluator'))
ADAM = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-2))


class Killed(BaseException):
    """What `Crash` raises: past every ``except Exception``, as a signal would be."""


@HOOKS.register_module()
class Crash(Hook):
    """End the run at a position: behind the ``n``-th iteration, epoch or stage, after its checkpoint if it has one.

    Args:
        kind (str): 'iter', 'epoch' or 'stage'.
        n (int): How many of them are done then, in the whole run.
        kill (bool): Whether the process is to be killed (SIGKILL) instead of raising :class:`Killed`.
        before (bool): Whether to end it before the checkpoint of this position is written.
    """

    def __init__(self, kind: str, n: int, kill: bool = False, before: bool = False) -> None:
        self.kind, self.n, self.kill = kind, n, kill
        self.priority = 'VERY_HIGH' if before else 'LOWEST'

    def at_position(self, runner, kind: str) -> None:
        done = dict(runner.train_loop.state(), stage=runner.train_loop.stage_index)
        if kind == self.kind and done[kind] == self.n:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed


@BLOCKS.register_module()
class PlainBlock(nn.Module):
    """Convolution, ReLU and, where asked for, dropout; no BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.conv(x).relu())


@MODELS.register_module()
class PlainNet(nn.Module):
    """Three :class:`PlainBlock` and a classifier."""

    def __init__(self, width: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1)
        self.block1 = PlainBlock(width, width, 1, dropout)
        self.block2 = PlainBlock(width, width, 2, dropout)
        self.block3 = PlainBlock(width, width, 1, dropout)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block3(self.block2(self.block1(self.stem(x).relu()))).mean((2, 3)))


def classifier(depth: int = 8, widths: tuple = (4, 6, 8), classes: int = 10, **backbone) -> dict:
    """Return the config of a small He-style ResNet on the digits."""
    backbone = dict(type='mmrecast.CifarResNet', depth=depth, widths=widths, in_channels=1, **backbone)
    width = widths[-1] * (4 if backbone.get('block') == 'bottleneck' else 1)
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=width)
    neck = dict(type='GlobalAveragePooling')
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)


def forward(network: nn.Module, x: Tensor, last: str | None) -> Tensor:
    """Compute step by step what a `classifier` of depth 14 gives at block ``last``, or its logits for None."""
    backbone = network.backbone
    x = backbone.bn1(backbone.conv1(x)).relu()
    for path in CHAIN:
        x = network.get_submodule(path)(x)
        if path == last:
            return x
    return network.head.fc(x.mean((2, 3)))


def preprocessor(**kwargs) -> dict:
    """Return the config of the digits' preprocessor."""
    return dict(type='BatchPreprocessor', input_shape=SHAPE, mean=[77.9], std=[95.9], **kwargs)


def recasting(teacher: dict | None = None, source: str | list = 'backbone.layer*.*', **options) -> dict:
    """Return the config of a recasting of ``source`` into convolutions."""
    recipe = options.pop('recipe', [dict(source=source, target='ConvBlock')])
    data_preprocessor = preprocessor(crop_padding=1)
    teacher = teacher or classifier()
    return dict(type='Recasting', teacher=teacher, recipe=recipe, data_preprocessor=data_preprocessor, **options)


def loader(split: str, images: int, batch: int) -> dict:
    """Return the config of a loader of so many digits."""
    return dict(
        batch_size=batch, num_workers=0, dataset=dict(type='Digits', split=split, num_samples=images),
        sampler=dict(type='DefaultSampler', shuffle=split == 'train'), collate_fn=dict(type='mmrecast.batch_collate'),
    )  # fmt: skip


def config(
    model: dict, stages: list[dict], loop: dict | None = None, checkpoint: dict | None = None, hooks=(), **changes
) -> Config:
    """Return a whole config: 96 training images in three batches, 60 for validation.

    ``loop`` and ``checkpoint`` are arguments for the loop and the checkpoint hook, ``hooks`` are added, ``changes``
    replace entries (None leaves one out).
    """
    accuracy = dict(type='mmpretrain.Accuracy', topk=(1,))
    saving = dict(type='StagedCheckpointHook', **(checkpoint or {}))
    values = dict(
        default_scope='mmrecast', runner_type='StagedRunner', randomness=dict(seed=0), model=copy.deepcopy(model),
        default_hooks=dict(checkpoint=saving, logger=dict(type='LoggerHook', interval=50)), log_level='WARNING',
        custom_hooks=[dict(type='ResultHook'), *hooks], log_processor=dict(type='StagedLogProcessor'),
        train_dataloader=loader('train', 96, 32), val_dataloader=loader('test', 60, 60), val_cfg=dict(),
        test_dataloader=loader('test', 60, 60), test_cfg=dict(), val_evaluator=accuracy, test_evaluator=accuracy,
        optim_wrapper=ADAM, param_scheduler=dict(type='CosineAnnealingLR'),
        train_cfg=dict(type='StagedLoop', stages=copy.deepcopy(stages), **(loop or {})),
    )  # fmt: skip
    return Config({key: value for key, value in (values | changes).items() if value is not None})


def run(cfg: Config, work_dir: str | Path, crash: dict | None = None, **kwargs) -> dict:
    """Train in ``work_dir``, maybe with a :class:`Crash`, and return what ``result.json`` holds."""
    cfg = copy.deepcopy(cfg)
    if crash is not None:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='Crash', **crash)]
    return train(cfg, work_dir=str(work_dir), **kwargs)


def write(cfg: Config, path: Path, crash: dict | None = None) -> Path:
    """Write a config, maybe with a :class:`Crash`, to a file for commands in other processes, and return its path."""
    cfg = copy.deepcopy(cfg)
    cfg.custom_imports = dict(imports=['tiny'], allow_failed_imports=False)
    if crash is not None:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='Crash', kill=True, **crash)]
    cfg.dump(path)
    return path


def weights(work_dir: str | Path) -> dict[str, Tensor]:
    """Return the weights of the student that a run left in its work dir."""
    return load_file(Path(work_dir) / 'student.pth')['weights']


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Return the names under which two dicts of tensors do not hold the same bits."""
    return sorted(
        key for key in {*one, *other} if key not in one or key not in other or not torch.equal(one[key], other[key])
    )


def without_seconds(result: dict) -> list[dict]:
    """Return the stage records of a result but for what depends on the machine's speed."""
    return [{key: value for key, value in record.items() if key != 'seconds'} for record in result['stages']]
