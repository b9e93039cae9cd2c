"""Runs of some seconds, of every kind of training, that attacks kill."""

from pathlib import Path

import tiny
from mmengine.config import Config

FACTORS = [
    dict(teacher='backbone.layer3', teacher_connector='coder', loss=dict(type='L1Loss'), stage='pretrain'),
    dict(student='backbone.layer3', teacher='backbone.layer3', connector=dict(type='Translator'),
         teacher_connector='coder', loss=dict(type='FTLoss', loss_weight=10.0)),
]  # fmt: skip
NETWORK = tiny.classifier(widths=(4, 8, 16), shortcut='B')
AUGMENTED = tiny.preprocessor(crop_padding=1)
HALVED = dict(type='StepLR', step_size=1, gamma=0.5)


def recasting(options: dict | None = None, **stage) -> Config:
    """Return a recasting of three blocks with dropout, and its fine-tuning."""
    teacher = dict(type='PlainNet', dropout=0.3)
    recipe = [dict(source='block*', target=dict(type='PlainBlock', dropout=0.2))]
    model = tiny.recasting(teacher, recipe=recipe, **(options or {}))
    stages = [dict(kind='recast', blocks='all', epochs=2, **stage), dict(kind='finetune', epochs=4)]
    return tiny.config(model, stages, **settings())


def with_loaders() -> Config:
    """Return the same, its data loaded by a process of its own."""
    cfg = recasting()
    cfg.train_dataloader.num_workers = 1
    return cfg


def residual() -> Config:
    """Return a recasting of residual blocks with batch normalisation, from a closed-form start."""
    stages = [dict(kind='recast', blocks='all', iters=8), dict(kind='finetune', epochs=3, param_scheduler=HALVED)]
    return tiny.config(tiny.recasting(start=dict(type='closed_form', images=40)), stages, **settings())


def factor_transfer() -> Config:
    """Return Factor Transfer in its two phases."""
    model = dict(
        type='SingleTeacherDistill', teacher=tiny.classifier(depth=14), student=tiny.classifier(), links=FACTORS,
        connectors=dict(coder=dict(type='Paraphraser')), data_preprocessor=AUGMENTED,
    )  # fmt: skip
    return tiny.config(model, [dict(kind='pretrain', epochs=3), dict(kind='train', epochs=4)], **settings())


def searched() -> Config:
    """Return a search of widths, and the training of what it found."""
    model = dict(
        type='DifferentiableAdjoinedNetwork', network=NETWORK, above=4, gamma=1e-9, data_preprocessor=AUGMENTED
    )
    return tiny.config(model, [dict(kind='search', epochs=3), dict(kind='train', epochs=3)], **settings())


def apart() -> Config:
    """Return a recasting whose blocks train apart."""
    return recasting(dict(block_input='teacher'), parallel=True)


def settings() -> dict:
    """Return what all of them share: five batches in an epoch, a checkpoint at every second iteration."""
    hooks = [dict(type='Phases', last=last) for last in (False, True)]
    loop = dict(val_interval=1, probe_images=60)
    return dict(
        hooks=hooks, loop=loop, checkpoint=dict(iter_interval=2), train_dataloader=tiny.loader('train', 160, 32)
    )


PROBLEMS = {
    'recasting': recasting,
    'recasting with loaders': with_loaders,
    'recasting of residual blocks': residual,
    'blocks apart': apart,
    'Factor Transfer': factor_transfer,
    'width search': searched,
}


def write(problem: str, path: Path) -> Path:
    """Write the config of a problem to a file for commands, and return its path."""
    cfg = PROBLEMS[problem]()
    tiny.write(cfg, path)
    cfg = Config.fromfile(path, lazy_import=False, import_custom_modules=False)
    cfg.custom_imports.imports.append('torture.moments')
    cfg.dump(path)
    return path
