"""The configs as they are, but with narrow networks on a few small random images, for tests of all of them."""

import copy
import functools
import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from tiny import differing, tensors
from torch import Tensor, nn

from mmrecast.algorithms import Recasting
from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.apis import ready_runner
from mmrecast.datasets.base import TensorDataset
from mmrecast.engine import StagedRunner
from mmrecast.links.taps import Tap
from mmrecast.models import build_network
from mmrecast.registry import DATASETS, HOOKS, MODELS
from mmrecast.stages import Stage
from mmrecast.utils.config_file import read_config

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'distill'
ALL = sorted(f'{path.parent.name}/{path.name}' for path in FOLDER.glob('[!_]*/*.py'))
ZOO = [
    leaf for leaf in ALL if re.search('_base_/(pairs|methods|singles)/', (FOLDER / leaf).read_text())
]  # of teacher and student, or of a network and its narrow one
SINGLES = [leaf for leaf in ZOO if '_base_/singles/' in (FOLDER / leaf).read_text()]
LEAVES = [leaf for leaf in ALL if leaf not in ZOO]  # of a source network and a recipe, or of one network
SIZE = 64  # pixels, in place of 224
NARROW = {
    'mmrecast.CifarResNet': dict(widths=(4, 8, 16), stem_width=4),
    'mmrecast.CifarDenseNet': dict(growth_rate=4),
    'mmrecast.CifarVGG': dict(widths=(8, 8, 16, 16, 16), hidden=16),
    'mmrecast.WideResNet': dict(widen_factor=1),
    'ResNet_CIFAR': dict(stem_channels=8, base_channels=8),
}
NARROWING = ('AdjoinedNetwork', 'DifferentiableAdjoinedNetwork', 'NarrowStudent')  # their `above` is a stem's width
MEMORY = Path('/dev/shm')  # where mmengine's copies of what it reads cost nothing


@DATASETS.register_module()
class RandomImages(TensorDataset):
    """Noise of ``shape`` (C, H, W), 0..255, in place of a data set of ``classes`` classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int, images: int) -> None:
        generator = np.random.default_rng(0)
        noise = generator.integers(0, 256, (images, *shape), dtype=np.uint8)
        super().__init__(noise, generator.integers(0, classes, images), [str(name) for name in range(classes)])


@MODELS.register_module()
def NarrowTorchvision(name: str, num_classes: int = 10, factor: int = 8) -> nn.Module:
    """Return torchvision's network with every width divided by ``factor``: the same modules in the same places."""
    from torchvision import models

    with torch.device('meta'):
        network = models.get_model(name, num_classes=num_classes * factor)
    for path, layer in list(network.named_modules()):
        if list(layer.children()) or not (list(layer.parameters()) or list(layer.buffers())):
            continue
        parent, _, own = path.rpartition('.')
        setattr(network.get_submodule(parent), own, _narrow(layer, factor))
    return network


def _narrow(layer: nn.Module, factor: int) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        widths = (layer.in_channels if layer.in_channels == 3 else layer.in_channels // factor), layer.out_channels
        shape = dict(stride=layer.stride, padding=layer.padding, bias=layer.bias is not None)
        groups = 1 if layer.groups == 1 else layer.groups // factor
        return nn.Conv2d(widths[0], widths[1] // factor, layer.kernel_size, groups=groups, **shape)
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features // factor, layer.out_features // factor)
    return type(layer)(layer.num_features // factor)


@functools.cache
def _read(leaf: str) -> Config:
    before = tempfile.tempdir
    tempfile.tempdir = str(MEMORY) if MEMORY.is_dir() else before
    try:
        return read_config(FOLDER / leaf)
    finally:
        tempfile.tempdir = before


def read(leaf: str) -> Config:
    """Return a copy of the config ``method/name.py``."""
    return copy.deepcopy(_read(leaf))


def narrowed(leaf: str) -> Config:
    """Return the config with narrow untrained networks, ten random images and two training batches; else as it is."""
    cfg = read(leaf)
    shape = cfg.data_preprocessor.input_shape
    if shape[1] > SIZE:
        cfg.data_preprocessor.input_shape = shape = (shape[0], SIZE, SIZE)
    if torch.backends.cpu.get_cpu_capability() == 'AVX2':  # so few channels spoil its heap: engine.layout
        cfg.data_preprocessor.pop('channels_last', None)
    cfg.model = narrow_networks(cfg.model, shape)
    cfg.model.pop('teacher_ckpt', None)
    if 'start' in cfg.model:
        start = cfg.model.start
        cfg.model.start = (dict(type=start) if isinstance(start, str) else start) | dict(images=4)
    data = dict(type='RandomImages', shape=shape, classes=classes_of(cfg), images=10)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        collate = dict(type='mmrecast.batch_collate')
        cfg[key] = dict(batch_size=5, num_workers=0, dataset=data, sampler=cfg[key].sampler, collate_fn=collate)
    return Config(dict(cfg, log_level='ERROR'), filename=cfg.filename)


def classes_of(cfg: Config) -> int:
    """Return how many classes a narrowed config's networks tell apart."""
    return next((part['num_classes'] for part in parts_of(cfg.model) if 'num_classes' in part), 10)


def parts_of(value: object) -> Iterator[Mapping]:
    """Yield every dict inside ``value``, itself included."""
    if isinstance(value, Mapping):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from parts_of(part)


def narrow_networks(value: object, shape: tuple) -> object:
    """Return a config of networks with narrow ones in their place, for images of ``shape`` (C, H, W)."""
    if isinstance(value, list | tuple):
        return type(value)(narrow_networks(part, shape) for part in value)
    if not isinstance(value, Mapping):
        return value
    if value.get('type') == 'TorchvisionClassifier':
        return dict(type='NarrowTorchvision', name=value['name'])
    parts = {key: narrow_networks(part, shape) for key, part in value.items()}
    if isinstance(parts.get('network'), str):
        parts['network'] = _student_of(parts['network'])
    if value.get('type') in NARROWING:
        parts['above'] = 4 if any(part.get('type') == 'mmrecast.CifarResNet' for part in parts_of(parts)) else 8
    if 'input_shape' in parts:
        parts['input_shape'] = shape
    if 'backbone' in parts:
        narrow = NARROW[parts['backbone']['type']]
        if 'hidden' in parts['backbone'] and parts['backbone']['hidden'] is None:
            narrow = {key: value for key, value in narrow.items() if key != 'hidden'}
        parts['backbone'] |= narrow
        parts['head']['in_channels'] = _width(dict(parts['backbone']))
    return parts


def _student_of(path: str) -> dict:
    """Return the config of the untrained student that the recasting of work_dirs/NAME/student.pth would leave."""
    name = Path(path).parent.name
    model = narrowed(f'{name.split("_")[0]}/{name}.py').model
    origin = build_network(dict(type='RecastStudent', source=model.teacher, recipe=model.recipe)).origin
    return dict(type='RecastNetwork', source=origin.constructor, plan=origin.plan.to_dict())


def _width(backbone: dict) -> int:
    name, image = backbone['type'], torch.zeros(1, backbone.get('in_channels', 3), 32, 32)
    network = build_network(dict(backbone, type=name if '.' in name else f'mmpretrain.{name}'))
    network.eval()  # mmpretrain's return None
    return network(image)[-1].shape[1]


def trained_in(algorithm: nn.Module, stage: Stage) -> set[str]:
    """Return what a stage must change of ``algorithm.student``, by the method's definition and the order of calls.

    Both networks of an adjoined pair, and in a search what chooses the widths. Else
    everything up to the output of block k+1, or all of the network behind the last block and where no block is recast;
    where connectors and features are pre-trained, everything up to what is compared.
    Where block k is given the teacher's input, nothing before it is trained; where it starts from the closed form, what
    follows it is untouched.
    """
    student = algorithm.student
    if isinstance(student, AdjoinedPair):
        kept = () if stage.kind == 'search' else ('width_logits',)
        return {name for name in tensors(student) if name not in kept}
    if stage.kind == 'pretrain':
        taps = [tap for link in algorithm.links if link.spec.stage == 'pretrain' for tap in link.spec.taps('student')]
        return set().union(*(_called_before(student, tap, algorithm.input_shape) for tap in taps))
    if stage.kind != 'recast':
        return _called_before(student, None, algorithm.input_shape)
    plan = algorithm.plan
    step = next(i for i, entry in enumerate(plan.entries) if entry.path == stage.block)
    entry, follower = plan.entries[step], plan.follower(step)
    frozen = algorithm.start == 'closed_form'
    fed = algorithm.block_input == 'teacher'
    before = _called_before(student, Tap(entry.path, read='input'), algorithm.input_shape) if fed else set()
    if follower is None:
        return _called_before(student, entry.output if frozen else None, algorithm.input_shape) - before
    names = _called_before(student, follower.output, algorithm.input_shape) - before
    return {n for n in names if not (frozen and n.startswith(tuple(f'{path}.' for path in follower.modules)))}


@torch.no_grad()
def _called_before(network: nn.Module, last: Tap | str | None, shape: tuple[int, int, int]) -> set[str]:
    """Return the parameters and buffers of all modules that a forward pass calls until ``last`` is read."""
    network, names, done = copy.deepcopy(network).eval(), set(), []

    def note(path: str, module: nn.Module):
        own = [*module.named_parameters(path, recurse=False), *module.named_buffers(path, recurse=False)]
        return lambda *_: names.update(name for name, _ in own if not done)

    for path, module in network.named_modules():
        module.register_forward_pre_hook(note(path, module))
    if last is not None:
        tap = Tap(last) if isinstance(last, str) else last
        module, calls = network.get_submodule(tap.path), itertools.count()
        register = module.register_forward_pre_hook if tap.read == 'input' else module.register_forward_hook
        register(lambda *_: done.append(True) if next(calls) == (tap.call or 0) else None)
    network(torch.zeros(2, *shape))
    return names


class Step:
    """One optimiser step of a stage, and what must hold behind it."""

    def __init__(self, algorithm: nn.Module, stage: Stage) -> None:
        self.algorithm, self.stage = algorithm, stage
        for module in algorithm.student.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():  # it would let no gradient through
                nn.init.ones_(module.weight)
        self.student, self.beside = tensors(algorithm.student), self._beside()
        self.teacher = None if algorithm.teacher is None else tensors(algorithm.teacher)

    def _beside(self) -> dict[str, Tensor]:
        """Return a copy of the parameters of connectors and losses."""
        named = self.algorithm.named_parameters()
        return {name: value.detach().clone() for name, value in named if not name.startswith('student.')}

    def check(self, loss: Tensor) -> None:
        """Assert that the loss is finite, and that what the stage trains changed, and nothing else."""
        algorithm, name = self.algorithm, self.stage.name
        assert torch.isfinite(loss), name
        changed = differing(self.student, tensors(algorithm.student))
        assert changed == sorted(trained_in(algorithm, self.stage)), name
        trained = [key for key, value in algorithm.named_parameters() if value.requires_grad and key in self.beside]
        assert differing(self.beside, self._beside()) == sorted(trained), name
        if self.teacher is not None:
            assert differing(self.teacher, tensors(algorithm.teacher)) == [], name


def _hurry(optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Raise the rates: the scale of a BN of one channel has next to no gradient, and its step must not be lost."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    for group in (group for wrapper in wrappers for group in wrapper.optimizer.param_groups):
        group['lr'] *= 10


def take_step(runner: StagedRunner, index: int) -> None:
    """Bring a runner's algorithm to the beginning of stage ``index``, take one step and check it."""
    algorithm, stages = runner.bare_model, runner.train_loop.stages
    stage, batch = stages[index], next(iter(runner.train_loop.dataloader))
    algorithm.restore_structure(stages, index, started=False, structure={})
    algorithm.begin_stage(stage, [algorithm.data_preprocessor(batch)])
    runner.set_optimizer(copy.deepcopy(stage.optim_wrapper or runner.cfg.optim_wrapper), None)
    _hurry(runner.optim_wrapper)
    algorithm.train()
    step = Step(algorithm, stage)
    losses = algorithm.train_step(batch, runner.optim_wrapper)
    step.check(losses['loss'])


def stages_to_try(runner: StagedRunner) -> list[int]:
    """Return the first, a middle and the last stage, and with a recasting the last block's."""
    count = len(runner.train_loop.stages)
    last_block = [count - 2] if isinstance(runner.bare_model, Recasting) else []
    return sorted({0, count // 2, *last_block, count - 1})


@HOOKS.register_module()
class CheckEveryStep(Hook):
    """Check every step of a run with :class:`Step`, and count the stages that had one."""

    priority = 'LOWEST'
    stages: list[str] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._step = Step(runner.bare_model, runner.train_loop.stage)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._step.check(outputs['loss'])
        self.stages.append(runner.train_loop.stage.name)


def runner_for(leaf: str, folder: Path) -> StagedRunner:
    """Return everything that the training of a narrowed config needs, ready for the first batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StagedRunner, '_log_env', lambda *args: None)
        torch.manual_seed(0)
        return ready_runner(narrowed(leaf), work_dir=str(folder))
