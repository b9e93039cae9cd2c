"""A user's mistake ends in one clear line before the first batch, and leaves nothing written or changed."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config
from PIL import Image

from mmrecast.apis import ready_runner
from mmrecast.datasets import CIFAR10, TensorDataset
from mmrecast.engine import StagedRunner
from mmrecast.models import build_network
from mmrecast.registry import DATASETS
from mmrecast.utils.config_file import read_config
from mmrecast.utils.mistakes import explain

OUT = ...  # takes a key out of the config
STAGES = [dict(kind='recast', iters=2), dict(kind='finetune', iters=2)]
FIRST, SECOND, LAST = tiny.BLOCKS_OF_8
UNKNOWN, ENDING = 'is not registered in mmrecast', r'; custom_imports registers your own$'


def recipe(source: str | list = FIRST, type: str = 'ConvBlock', **target) -> dict:
    """Return the change of the config to a recipe of one rule."""
    return {'model.recipe': [dict(source=source, target=dict(target, type=type))]}


def stages(*entries: object) -> dict:
    """Return the change of the config to another schedule."""
    return {'train_cfg.stages': list(entries)}


def recast(**stage) -> dict:
    """Return the change of the config to another recast stage."""
    return stages(dict(kind='recast', **stage), STAGES[1])


def optimizer(**changes) -> dict:
    """Return the change of the config's optimiser."""
    return {f'optim_wrapper.optimizer.{key}': value for key, value in changes.items()}


def train_data(type: str, **arguments) -> dict:
    """Return the change of the config to other training data."""
    return {'train_dataloader.dataset': dict(type=type, **arguments)}


def shape(*input_shape: int) -> dict:
    """Return the change of the config to another input shape."""
    return {'model.data_preprocessor': dict(type='BatchPreprocessor', input_shape=input_shape)}


WIDTH_KEPT = tiny.classifier(widths=(4, 6, 10)) | dict(head=dict(type='ClsHead'))  # the blocks' output is the logits
FILES = dict(  # name: what is said of it as a teacher, what as a checkpoint to resume from
    absent=('no checkpoint at .*absent.pth .nearest: ',) * 2,
    empty=(r'empty.pth is not a readable checkpoint \(the file is empty\)',) * 2,
    cut=(r'cut.pth is not a readable checkpoint \(it is cut short: copy or download it again\)',) * 2,
    page=(r'page.pth is not a readable checkpoint \(it is a web page: download it again\)',) * 2,
    code=('code.pth holds posix.system, which a checkpoint may not; it was not run',) * 2,
    deeper=(
        r'does not fit ImageClassifier: 42 unexpected: backbone.layer1.1.conv1.weight \(4, 4, 3, 3\), .*, …$',
        r'no checkpoint of a staged run: give a stage\*_iter\*.pth of a work dir',
    ),
    wider=(
        r'\d+ of other shape: backbone.layer2.0.conv1.weight \(8, 4, 3, 3\), expected \(6, 4, 3, 3\), .*, …$',
        r'no checkpoint of a staged run',
    ),
    student=('student.pth is a recast student with its plan', 'student.pth is a student, without the state of its'),
)  # fmt: skip
TYPES = [  # (key of the config, what stands there, nearest): the registries
    ('model.type', 'Recastin', 'model .nearest: Recasting'),
    ('model.teacher.type', 'mmpretrain.ImageClasifier', 'model .nearest: mmpretrain.ImageClassifier'),
    ('model.teacher.type', 'mmpretran.ImageClassifier', "model: there is no scope 'mmpretran' .nearest: mmpretrain"),
    ('model.block_loss.type', 'MSELos', 'model .nearest: MSELoss'),
    ('model.data_preprocessor.type', 'BatchPreprocesor', 'model .nearest: BatchPreprocessor'),
    ('train_dataloader.dataset.type', 'Digit', 'dataset .nearest: Digits'),
    ('val_dataloader.dataset.type', 'Cifar10', 'dataset .nearest: CIFAR10'),
    ('train_dataloader.sampler.type', 'DefaultSampeler', 'data sampler .nearest: DefaultSampler'),
    ('train_dataloader.collate_fn.type', 'batch_colate', 'function .nearest: batch_collate'),
    ('optim_wrapper.type', 'OptimWraper', 'optim_wrapper .nearest: OptimWrapper'),
    ('optim_wrapper.optimizer.type', 'Sgd', 'optimizer .nearest: SGD'),
    ('param_scheduler.type', 'CosineAnealingLR', 'parameter scheduler .nearest: CosineAnnealingLR'),
    ('custom_hooks', [dict(type='ResultHok')], 'hook .nearest: ResultHook'),
    ('default_hooks.logger.type', 'LogerHook', 'hook .nearest: LoggerHook'),
    ('train_cfg.type', 'StagedLop', 'loop .nearest: StagedLoop'),
    ('val_evaluator.type', 'Accuracy', 'metric .nearest: mmpretrain.Accuracy'),
    ('log_processor.type', 'StagedLogProcesor', 'log_processor .nearest: StagedLogProcessor'),
    ('runner_type', 'StagedRuner', 'runner .nearest: StagedRunner'),
]
ARGUMENTS = [  # (key that nothing takes, who does not, nearest)
    ('model.star', 'Recasting', 'start'),
    ('model.recipee', 'Recasting', 'recipe'),
    ('model.teacher.backbone.depht', 'CifarResNet', 'depth'),
    ('model.data_preprocessor.padding', 'BatchPreprocessor', 'crop_padding'),
    ('train_dataloader.dataset.splt', 'Digits', 'split'),
    ('train_dataloader.batchsize', 'DataLoader', 'batch_size'),
    ('val_evaluator.topkk', 'Accuracy', 'topk'),
    ('default_hooks.checkpoint.intervall', 'StagedCheckpointHook', 'interval'),
    ('train_cfg.val_intervall', 'StagedLoop', 'val_interval'),
]
LINK = dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))
DISTIL = dict(type='SingleTeacherDistill', student=tiny.classifier(), data_preprocessor=tiny.preprocessor())

# (name, changes of a config that is in order ('@…' are arguments of ready_runner), exception, what it says)
MISTAKES = [
    ('unknown path', recipe('backbone.layer1.7'), ValueError, f"path 'backbone.layer1.7' matches .*nearest: {FIRST}"),
    ('empty pattern', recipe('backbone.stage*.*'), ValueError, "pattern 'backbone.stage.*' matches nothing .nearest: "),
    ('overlap', recipe(['backbone.layer1', FIRST]), ValueError, f"'backbone.layer1' and '{FIRST}' overlap: name one"),
    ('order', recipe([SECOND, FIRST]), ValueError, f"'{FIRST}' stands before '{SECOND}' in the network: write"),
    ('twice', recipe([FIRST, 'backbone.*.0']), ValueError, f"block '{FIRST}' is selected twice by the recipe: name"),
    ('no chain', recipe(f'{FIRST}.conv2'), ValueError, 'not a chain: .* is not fed by .* alone .*; name a module that'),
    ('no map', recipe('head.fc'), ValueError, r"block 'head.fc' \(Linear\) does not map one \(N, C, H, W\) to one"),
    ('stride', recipe(SECOND, stride=1), ValueError, r'maps \(4, 8, 8\) to \(6, 4, 4\), so its target needs stride 2'),
    ('no channels', recipe(out_channels=0), ValueError, 'would have 0 channels: a whole number of at least 1'),
    ('negative ratio', recipe(width_ratio=-1), ValueError, 'width_ratio for .* must be a positive number, got -1'),
    ('width stuck', recipe(LAST, width_ratio=0.5) | {'model.teacher': WIDTH_KEPT}, ValueError,
     'from 10 to 5, but nothing behind it can take that up: keep the width'),
    ('target argument', recipe(kernelsize=3), ValueError, "ConvBlock takes no argument 'kernelsize' .nearest: kernel_s"),
    ('unsolvable', recipe(type='BasicBlock') | {'model.start': 'closed_form'}, ValueError,
     "start='closed_form' cannot solve .* a BasicBlock, not one convolution with BN and ReLU; use 'xavier'"),
    ('unknown block', recipe(type='ConvBlok'), KeyError, f"'ConvBlok' {UNKNOWN}.block .nearest: ConvBlock.*{ENDING}"),
    ('no recipe', {'model.recipe': OUT}, TypeError, "^Recasting needs the argument 'recipe', which is not given$"),
    ('unknown start', {'model.start': 'closedform'}, ValueError, r'got .closedform. \(nearest: closed_form\)'),
    ('unknown connector', {'model.compare': 'target', 'model.connector': dict(type='ConvModuleConector')}, KeyError,
     'nearest: ConvModuleConnector'),
    ('idle connector', {'model.connector': dict(type='ConvModuleConnector')}, ValueError, "compare='target' alone"),
    *[(f'type {key} {name}', {key: name}, KeyError, f'{UNKNOWN}.{said}') for key, name, said in TYPES],
    *[(key, {key: 3}, TypeError, f"^{who} takes no argument '{key.split('.')[-1]}' .nearest: .*{near}")
      for key, who, near in ARGUMENTS],
    ('unknown runner', {'runner_type': 'Runner'}, ValueError, "must be StagedRunner or .* derived from it, got 'Runner'"),
    *[(f'teacher {name}', {'model.teacher_ckpt': f'{{files}}/{name}.pth'}, None, said[0])
      for name, said in FILES.items()],
    *[(f'resume {name}', {'@resume': f'{{files}}/{name}.pth'}, None, said[1]) for name, said in FILES.items()],
    ('resume nothing', {'@resume': True}, ValueError, 'nothing to resume in .*; leave --resume out to start'),
    ('resume recipe', recipe('backbone.layer*.*', kernel_size=5) | {'@resume': '{files}/run.pth'}, ValueError,
     'cannot be resumed: it was written with another recipe; start afresh in another work_dir, or restore'),
    ('resume schedule', recast(iters=3) | {'@resume': '{files}/run.pth'}, ValueError, 'with another schedule;'),
    ('resume optimiser', optimizer(lr=0.1) | {'@resume': '{files}/run.pth'}, ValueError, 'with another schedule;'),
    ('resume teacher', {'model.teacher_ckpt': '{files}/other.pth', '@resume': '{files}/run.pth'}, ValueError,
     'with another teacher;'),
    ('data nowhere', train_data('CIFAR10', data_root='{files}/nowhere'), FileNotFoundError,
     r'no CIFAR10 under .*nowhere \(which does not exist\): expected cifar-10-batches-py/.*; download=True in'),
    ('data empty', train_data('CIFAR10', data_root='{files}/void'), FileNotFoundError, r'void \(which is empty\)'),
    ('batch missing', train_data('CIFAR10', data_root='{files}/half'), FileNotFoundError, 'lacks data_batch_2, data_'),
    ('class missing', train_data('CIFAR10', data_root='{files}/nine'), FileNotFoundError, 'of class truck; it has 9'),
    ('split missing', train_data('CIFAR10', data_root='{files}/nine', split='test'), FileNotFoundError, 'no test/'),
    ('broken image', train_data('CIFAR10', data_root='{files}/torn'), ValueError, 'cat/0.png is not a readable image'),
    ('no data root', {'@data_root': '/nowhere'}, TypeError, "Digits takes no argument 'data_root'"),
    ('label outside', train_data('ElevenLabels'), ValueError, 'label 10 of sample 10 is outside the 10 classes'),
    ('labels from 1', train_data('LabelsFrom1'), ValueError, 'label 10 is outside the 10 classes of the student'),
    ('too few', {'train_dataloader.dataset.num_samples': 5000}, ValueError, 'expected a whole number from 1 to 1437'),
    ('no batch', {'train_dataloader.batch_size': 500, 'train_dataloader.drop_last': True}, ValueError, 'gives no batch'),
    ('batch size', {'val_dataloader.batch_size': 0}, ValueError, 'val_dataloader.batch_size must be .* at least 1, got 0'),
    ('no batch size', {'train_dataloader.batch_size': OUT}, ValueError, 'train_dataloader needs batch_size'),
    ('no sampler', {'train_dataloader.sampler': OUT}, ValueError, 'train_dataloader needs sampler'),
    ('classes', {'model.teacher': tiny.classifier(classes=7)}, ValueError, 'teacher has 7 classes but the data set has 10'),
    ('image channels', shape(3, 8, 8), ValueError, r'ImageClassifier does not take an input of \(3, 8, 8\): '),
    ('image size', shape(1, 16, 16), ValueError, r'images have shape \(1, 8, 8\), but input_shape is \(1, 16, 16\)'),
    ('zero epochs', recast(epochs=0), ValueError, "recast: a length of 0 needs start='closed_form'"),
    ('zero tuning', stages(STAGES[0], dict(kind='finetune', epochs=0)), ValueError, 'finetune: its length must be at'),
    ('negative epochs', recast(epochs=-1), ValueError, 'epochs must be a whole number of at least 1, got -1'),
    ('half an epoch', recast(epochs=1.5), ValueError, 'epochs must be a whole number of at least 1, got 1.5'),
    ('both lengths', recast(epochs=1, iters=1), ValueError, 'give exactly one of epochs and iters, got 1 and 1'),
    ('no length', recast(), ValueError, 'recast: give exactly one of epochs and iters'),
    ('unknown kind', stages(dict(kind='recst', iters=1)), ValueError, r'Recasting has no stage .recst. .nearest: recast'),
    ('unknown key', recast(epoch=1), ValueError, r"unknown key 'epoch' in stage 'recast' \(nearest: epochs\)"),
    ('no stage', stages('recast'), ValueError, r"a stage is a dict\(kind=…, epochs=…\), got 'recast'"),
    ('no stages', {'train_cfg.stages': []}, ValueError, r'a schedule is a list of stages, got \[\]'),
    ('mmengine loop', {'train_cfg': dict(by_epoch=True, max_epochs=3)}, ValueError, "must be dict.type='St"),
    ('block not recast', recipe() | recast(blocks=LAST, iters=1), ValueError, f"'{LAST}' matches .* blocks of the recipe"),
    ('stages missing', stages(STAGES[1]), ValueError, f"no recast stage for block '{FIRST}' of the recipe: write blocks="),
    ('stages order', recast(iters=1, blocks=SECOND), ValueError, f"go through the plan in order: .* where '{FIRST}' is"),
    ('stages too many', stages(STAGES[0], STAGES[0]), ValueError, 'a recast stage too many, all 3 blocks of the recipe'),
    ('negative rate', optimizer(lr=-1), ValueError, '^optimiser: Invalid learning rate: -1$'),
    ('rate of a stage', recast(iters=1, optim_wrapper=dict(optimizer=dict(type='SGD', lr=-1))), ValueError,
     "^optimiser of stage 'recast': Invalid learning rate: -1$"),
    ('rate in words', optimizer(lr='fast'), ValueError, "lr must be a number, got 'fast'"),
    ('rate nan', optimizer(lr=float('nan')), ValueError, 'lr must be a number, got nan'),
    ('momentum', optimizer(type='SGD', momentum=1.5), ValueError, 'momentum must be at least 0 and smaller than 1, got'),
    ('negative momentum', optimizer(type='SGD', momentum=-0.1), ValueError, 'Invalid momentum value: -0.1'),
    ('optimiser argument', optimizer(learning_rate=1), ValueError, "Adam takes no argument 'learning_rate' .nearest: "),
    ('wrapper argument', {'optim_wrapper.clip_grads': 1}, ValueError, 'OptimWrapper takes .*nearest: clip_grad'),
    ('clip argument', {'optim_wrapper.clip_grad': dict(max_nrm=1)}, ValueError, "'max_nrm' .nearest: max_norm"),
    ('no optimiser', {'optim_wrapper.optimizer': OUT}, ValueError, "given as optim_wrapper=dict.type='OptimWrapper', opti"),
    ('scheduler argument', {'param_scheduler.tmax': 3}, ValueError, "takes no argument 'tmax' .nearest: T_max"),
    ('scheduler in words', {'param_scheduler': 'cosine'}, ValueError, "param_scheduler must be a dict.*, got 'cosine'"),
    ('seed', {'randomness.seed': -1}, ValueError, 'randomness.seed must be a whole number from 0'),
    ('no model', {'model': OUT}, ValueError, 'a training config needs model'),
    ('misspelt key', {'param_scheduler': OUT, 'param_schedular': {}}, ValueError, 'unknown key .*nearest: param_scheduler'),
    ('half a validation', {'val_cfg': OUT}, ValueError, 'go together, but there is no val_cfg'),
    ('link without teacher', {'model': DISTIL | dict(links=[LINK])}, ValueError, r'1 link\(s\) but no teacher: give'),
    ('unknown tap', {'model': DISTIL | dict(teacher=tiny.classifier(), links=[LINK | dict(student='haed')])}, KeyError,
     "has no module 'haed' .nearest: head"),
    ('amp', {'@amp': True}, ValueError, '--amp needs a GPU'),
    ('launcher', {'@launcher': 'pytorch'}, ValueError, 'needs RANK, .* which torchrun sets: start with tools/dist_train'),
    ('work dir', {'@work_dir': '{files}/other.pth'}, FileExistsError, 'other.pth is a file, a folder is needed'),
]  # fmt: skip


@DATASETS.register_module()
class ElevenLabels(TensorDataset):
    """Ten classes and a label too many."""

    def __init__(self) -> None:
        super().__init__(np.zeros((11, 1, 8, 8), np.uint8), np.arange(11), list('abcdefghij'))


@DATASETS.register_module()
class LabelsFrom1(TensorDataset):
    """Labels 1 to 10, by a data set that does not tell its classes."""

    def __init__(self) -> None:
        super().__init__(np.zeros((10, 1, 8, 8), np.uint8), np.arange(1, 11), list('abcdefghijk'))
        self.metainfo = {}


class Touch:
    """Pickled, a call of the shell."""

    def __reduce__(self):
        return os.system, ('touch /nowhere/mmrecast',)


def valid() -> Config:
    """Return a config that is in order."""
    return tiny.config(tiny.recasting(teacher_ckpt='{files}/teacher.pth', block_loss=dict(type='MSELoss')), STAGES)


def filled(value: object, files: Path) -> object:
    """Return ``value`` with the folder of files in place of ``{files}``."""
    if isinstance(value, dict):
        return {key: filled(item, files) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, files) for item in value]
    return value.replace('{files}', str(files)) if isinstance(value, str) else value


def changed(changes: dict, files: Path) -> tuple[Config, dict]:
    """Return a config and the arguments of ``ready_runner`` for a row of the table."""
    cfg = valid()
    if 'model.teacher' in changes:
        cfg.model.teacher_ckpt = None
    for key, value in changes.items():
        *above, last = key.split('.')
        holder = cfg
        for part in above:
            holder = holder[part]
        if value is OUT:
            del holder[last]
        elif not key.startswith('@'):
            holder[last] = value
    arguments = {key[1:]: filled(value, files) for key, value in changes.items() if key.startswith('@')}
    return Config(filled(cfg.to_dict(), files)), arguments


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file under a folder with its bytes, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob('*')}


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> Path:
    """A folder of sound and broken files, and of a finished run."""
    folder = tmp_path_factory.mktemp('files')
    torch.manual_seed(0)
    widths = dict(teacher={}, other={}, deeper=dict(depth=14), wider=dict(widths=(4, 8, 16)))
    for name, arguments in widths.items():
        torch.save(build_network(tiny.classifier(**arguments)).state_dict(), folder / f'{name}.pth')
    (folder / 'empty.pth').touch()
    (folder / 'cut.pth').write_bytes((folder / 'teacher.pth').read_bytes()[:3000])
    (folder / 'page.pth').write_text('\n<!DOCTYPE html>\n<html><body>Not found</body></html>\n')
    (folder / 'code.pth').write_bytes(pickle.dumps(dict(state_dict=Touch())))
    for root, names in dict(nine=CIFAR10.classes[:-1], torn=CIFAR10.classes).items():
        for name in names:
            (folder / root / 'train' / name).mkdir(parents=True)
            Image.new('RGB', (32, 32)).save(folder / root / 'train' / name / '0.png')
    (folder / 'torn/train/cat/0.png').write_text('no image')
    (folder / 'half/cifar-10-batches-py').mkdir(parents=True)
    (folder / 'half/cifar-10-batches-py/data_batch_1').touch()
    (folder / 'void').mkdir()
    cfg, _ = changed({}, folder)
    cfg.dump(folder / 'config.py')
    tiny.run(read_config(folder / 'config.py'), folder / 'run')
    shutil.copy(sorted((folder / 'run').glob('stage*.pth'))[-1], folder / 'run.pth')
    shutil.copy(folder / 'run/student.pth', folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path) -> None:
    """Do not ask for compilers, keep decoded images apart, and have no variables of a launcher."""
    monkeypatch.setattr(StagedRunner, '_log_env', lambda *args: None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('changes', 'kind', 'said'), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(files, tmp_path, monkeypatch, changes, kind, said):
    cfg, arguments = changed(changes, files)
    if 'amp' in arguments:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    before = torch.get_rng_state()
    with pytest.raises(kind or (ValueError, FileNotFoundError)) as caught:
        ready_runner(cfg, **dict(work_dir=str(tmp_path / 'work'), **arguments) | arguments)
    line = explain(caught.value)
    assert re.search(said, line), line
    assert len(line) < 400 and '\n' not in line
    assert caught.type is not KeyError or caught.value.args == (line,)
    assert not (tmp_path / 'work').exists()
    torch.set_rng_state(before)


def test_the_table_starts_from_a_config_that_is_in_order(files, tmp_path):
    cfg, _ = changed({}, files)
    assert ready_runner(cfg, work_dir=str(tmp_path)).train_loop.position == 'stage 1/4 recast backbone.layer1.0, iteration 0/2'
