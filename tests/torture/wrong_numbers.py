"""Attacks by numbers: NaN and infinity in images, teacher, loss, gradients, weights; stages that diverge or regress."""

import functools
import math
import random
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny import (
    Killed,
    classifier,
    config,
    differing,
    loader,
    preprocessor,
    recasting,
    run,
    weights,
    without_seconds,
    write,
)
from torch import Tensor, nn
from torture.attack import ROOT, TRAIN, Attack, Family, command

from mmrecast.apis import load_student
from mmrecast.datasets import Digits
from mmrecast.models import build_network
from mmrecast.registry import DATASETS, HOOKS, MODELS
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.finite import first_not_finite

STAGES = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]
APART = [dict(STAGES[0], parallel=True), STAGES[1]]
ITERATIONS = 17  # three blocks and fine-tuning
PLAIN = dict(optimizer=dict(type='SGD', lr=1e-3), type='OptimWrapper')
DISTILLED = dict(
    type='SingleTeacherDistill', teacher=classifier(), student=classifier(widths=(2, 3, 4)),
    data_preprocessor=preprocessor(), task_loss=dict(type='CrossEntropyLoss'),
    links=[dict(student='head', teacher='head', loss=dict(type='KLDivergence', tau=4.0))],
)  # fmt: skip
FORMS = {
    'recasting': (recasting(), STAGES),
    'recasting from the closed form': (recasting(start=dict(type='closed_form', images=40)), STAGES),
    'blocks apart': (recasting(block_input='teacher'), APART),
    'distilling': (DISTILLED, [dict(kind='train', iters=ITERATIONS)]),
}


@DATASETS.register_module()
class SpoiltDigits(Digits):
    """The digits as float images, one of which holds a number that is not finite."""

    def __init__(self, spoilt: int, value: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.images = self.images.float()
        self.images[spoilt, 0, 3, 4] = float(value)


@MODELS.register_module()
class FailingLoss(nn.Module):
    """A loss whose value or gradient is not finite in the n-th training step."""

    def __init__(self, n: int, gradient: bool, value: str) -> None:
        super().__init__()
        self.n, self.gradient, self.value, self.calls = n, gradient, float(value), 0

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(s_feature, t_feature)
        self.calls += 1
        if self.calls != self.n:
            return loss
        if not self.gradient:
            return loss * self.value
        if s_feature.requires_grad:
            s_feature.register_hook(lambda gradient: gradient * self.value)
        return loss


@HOOKS.register_module()
class Spoil(Hook):
    """Put a number that is not finite into a weight behind an iteration, or make weights larger."""

    priority = 'VERY_HIGH'

    def __init__(self, at: int, value: str, grown: bool = False) -> None:
        self.at, self.value, self.grown = at, float(value), grown

    def at_position(self, runner, kind: str) -> None:
        if kind == 'iter' and runner.train_loop.state()['iter'] == self.at:
            live = [p for p in runner.bare_model.student.parameters() if p.requires_grad]
            with torch.no_grad():
                for parameter in live if self.grown else live[:1]:
                    parameter.mul_(self.value) if self.grown else parameter.view(-1)[:1].fill_(self.value)


def place(iteration: int, distilling: bool = False) -> str:
    """Return what a message says of iteration ``iteration`` (from 1) of the whole run."""
    stage, within = (0, iteration) if distilling else (min((iteration - 1) // 4, 3), 0)
    within = within or iteration - 4 * stage
    name = 'train' if distilling else [*(f'recast backbone.layer{n}.0' for n in (1, 2, 3)), 'finetune'][stage]
    return f'stage {stage + 1}/{1 if distilling else 4} {name}, iteration {within}/'


def stopped(cfg: Config, work_dir: Path, *parts: str, error: type[Exception] = FloatingPointError) -> None:
    """Check that training stops with one line that has ``parts``, and that nothing it leaves holds such a number."""
    try:
        run(cfg, work_dir)
    except error as stop:
        text = str(stop)
        missing = [part for part in parts if part not in text]
        assert not missing and '\n' not in text, f'{missing} not in: {text}'
    else:
        raise AssertionError('it was trained to its end')
    kept = [load_file(path) for path in work_dir.rglob('*.pth')]
    for content in kept:
        state = content.get('state_dict') or content.get('state') or content.get('weights')
        assert first_not_finite(state.items()) is None
    if error is FloatingPointError and list(work_dir.glob('stage*.pth')):
        assert 'last good state is stage' in text
        assert (work_dir / Path((work_dir / 'last_checkpoint').read_text()).name).is_file()


def spoilt(sample: int, value: str, split: str = 'train') -> dict:
    """Return the loader of the digits with an image that is not finite."""
    images, batch = (96, 32) if split == 'train' else (60, 60)
    made = loader(split, images, batch)
    made['dataset'] = dict(type='SpoiltDigits', spoilt=sample, value=value, split=split, num_samples=images)
    return made


def image(folder: Path, form: str, sample: int, value: str) -> None:
    """An image that is not among those looked at before training is met, and named."""
    model, stages = FORMS[form]
    cfg = config(model, stages, checkpoint=dict(iter_interval=1), train_dataloader=spoilt(sample, value))
    # Of blocks apart the last one, which takes longest, is the first; a start reads 40 images, maybe this one.
    stopped(cfg, folder, 'stage ', f'images of training sample {sample}: mend', 'iteration')


def image_before(folder: Path, split: str, sample: int) -> None:
    """An image among those looked at is refused before training."""
    cfg = config(
        recasting(), STAGES, **{f'{"train" if split == "train" else "val"}_dataloader': spoilt(sample, 'nan', split)}
    )
    stopped(cfg, folder / 'run', f'sample {sample}: mend', error=ValueError)
    assert not list(folder.iterdir())


def teacher(folder: Path, name: str, value: str) -> None:
    """A teacher whose weights are not finite is refused, by name."""
    network = build_network(classifier())
    network.state_dict()[name].view(-1)[0] = float(value)
    torch.save(network.state_dict(), folder / 'teacher.pth')
    cfg = config(recasting(teacher_ckpt=str(folder / 'teacher.pth')), STAGES)
    try:
        run(cfg, folder / 'run')
    except ValueError as error:
        assert f'hold NaN or infinity, first in {name}' in str(error) and '\n' not in str(error)
    else:
        raise AssertionError('it was trained by such a teacher')


def teacher_overflows(folder: Path) -> None:
    """A teacher of finite weights whose outputs are not is what the message names."""
    network = build_network(classifier())
    with torch.no_grad():
        network.head.fc.weight.fill_(3e38)
    torch.save(network.state_dict(), folder / 'teacher.pth')
    model = DISTILLED | dict(teacher_ckpt=str(folder / 'teacher.pth'))
    cfg = config(model, [dict(kind='train', iters=6)])
    stopped(cfg, folder / 'run', "the teacher's output is not finite")


def loss(folder: Path, at: int, gradient: bool, value: str) -> None:
    """A loss, or a gradient of a finite loss, is named with its stage, block and iteration."""
    model = recasting(block_loss=dict(type='FailingLoss', n=at, gradient=gradient, value=value))
    cfg = config(model, STAGES, checkpoint=dict(iter_interval=1), optim_wrapper=PLAIN)
    said = 'a gradient is not finite, though the loss is' if gradient else 'loss_block is not finite'
    stopped(cfg, folder, place(at), said, 'lower the rate')


def weight(folder: Path, at: int, value: str) -> None:
    """A weight that is not finite is in no checkpoint, whatever put it there."""
    cfg = config(recasting(), STAGES, checkpoint=dict(iter_interval=1), hooks=[dict(type='Spoil', at=at, value=value)])
    stopped(cfg, folder, place(at), 'weights are not finite')


def rate(folder: Path, lr: float, form: str) -> None:
    """A rate that is far too high ends in one line, not in a student."""
    model, stages = FORMS[form]
    sgd = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=lr))
    stopped(config(model, stages, optim_wrapper=sgd), folder, 'lower the rate')


def diverged(folder: Path) -> None:
    """A stage whose error is a hundred times that at its start is not gone on from."""
    hooks = [dict(type='Spoil', at=4, value='1e3', grown=True)]
    stopped(config(recasting(), STAGES, hooks=hooks), folder, 'stage 1/4 recast backbone.layer1.0: relative error')


# ---- blocks that are taken back -------------------------------------------------------------------------------------

TAKEN_BACK = dict(
    restart=recasting(start=dict(type='closed_form', images=40), on_regression='restart'),
    rollback=recasting(on_regression='rollback', max_error=2.0),
    solved=recasting(start=dict(type='closed_form', images=40), on_regression='rollback', max_error=0.5),
)
AS_FED = dict(block_input='teacher')


def taken_back_config(name: str, apart: bool) -> Config:
    """Return the config of a run in which blocks are taken back; some, or all."""
    model = TAKEN_BACK[name] | (AS_FED if apart else {})
    return config(model, APART if apart else STAGES, checkpoint=dict(iter_interval=1))


@functools.cache
def taken_back(name: str, apart: bool) -> tuple[dict, dict[str, Tensor]]:
    """Return the result and the weights of a run that nothing interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        return run(taken_back_config(name, apart), folder), weights(folder)


def resumed_across(folder: Path, name: str, apart: bool, at: int, before: bool) -> None:
    """Killed anywhere and resumed: the same blocks are taken back, the same weights and plan come of it."""
    cfg, (result, expected) = taken_back_config(name, apart), taken_back(name, apart)
    assert any(record.get('regression') for record in result['stages'])
    try:
        run(cfg, folder, dict(kind='iter', n=at, before=before))
    except Killed:
        again = run(cfg, folder, resume=(folder / 'last_checkpoint').is_file())
    assert differing(weights(folder), expected) == [] and without_seconds(again) == without_seconds(result)
    assert again['plan'] == load_file(folder / 'student.pth')['plan'] == result['plan']
    for record, entry in zip(result['stages'][:3], result['plan']['entries'], strict=True):
        assert (entry['action'] == 'keep') == (record.get('regression') == 'rolled back to the source block')
    student = load_student(folder / 'student.pth')
    assert student(torch.zeros(2, 1, 8, 8)).isfinite().all()


def two_processes(folder: Path, name: str, apart: bool) -> None:
    """Two processes take the same blocks back and end; killed and resumed with the same bits."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    cfg = taken_back_config(name, apart)
    changes = dict(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='', PORT=port)
    words = ['bash', ROOT / 'tools' / 'dist_train.sh', write(cfg, folder / 'tiny_config.py'), '2', '--work-dir']
    status, _, said = command([*words, folder / 'whole'], folder, **changes)
    assert status == 0, said[-2000:]
    killing = write(cfg, folder / 'killing.py', dict(kind='iter', n=6))
    command([*words[:2], killing, '2', '--work-dir', folder / 'run'], folder, **changes)
    (folder / 'run' / 'tiny_config.py').unlink(missing_ok=True)
    status, _, said = command([*words, folder / 'run', '--resume'], folder, **changes)
    assert status == 0, said[-2000:]
    assert differing(weights(folder / 'run'), weights(folder / 'whole')) == []
    load_student(folder / 'run' / 'student.pth')


def two_processes_fail(folder: Path, at: int) -> None:
    """One image of one of two processes is not finite: both stop at once, and it is named."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    cfg = config(recasting(), STAGES, checkpoint=dict(iter_interval=1), train_dataloader=spoilt(at, 'nan'))
    cfg.custom_imports = dict(imports=['tiny', 'torture.wrong_numbers'], allow_failed_imports=False)
    path = folder / 'tiny_config.py'
    cfg.dump(path)
    changes = dict(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='', PORT=port)
    words = ['bash', ROOT / 'tools' / 'dist_train.sh', path, '2', '--work-dir', folder / 'run']
    status, _, said = command(words, folder, **changes)
    assert status != 0 and f'images of training sample {at}: mend' in said, said[-2000:]


def by_command(folder: Path) -> None:
    """tools/train.py ends with status 2 and one line."""
    sgd = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e38))
    path = write(config(recasting(), STAGES, optim_wrapper=sgd), folder / 'tiny_config.py')
    status, _, said = command([*TRAIN, path, '--work-dir', folder / 'run'], folder, CUDA_VISIBLE_DEVICES='')
    errors = [line for line in said.splitlines() if line.startswith('error: ')]
    assert status == 2 and len(errors) == 1 and 'Traceback' not in said, said[-2000:]
    assert 'stage 1/4 recast backbone.layer1.0, iteration' in errors[0] and 'lower the rate' in errors[0]


def attack(kind: str, make: Callable, *args, seed: int = 0, short: bool = False) -> Attack:
    """Return the attack ``make(folder, *args)``."""
    return Attack(kind, lambda folder: make(folder, *args), seed, short)


def _seeds(number: int) -> list[random.Random]:
    return [random.Random(f'numbers {i}') for i in range(number)]


def _unseen(draw: random.Random) -> int:
    """Return a training sample that is not among the 16 looked at before training."""
    return draw.choice([i for i in range(96) if i not in {k * 96 // 16 for k in range(16)}])


VALUES = ('nan', 'inf', '-inf')
ATTACKS = [
    *(
        attack(f'{form}, an image that is not finite', image, form, _unseen(d), d.choice(VALUES), seed=i, short=i == 0)
        for form in FORMS
        for i, d in enumerate(_seeds(8))
    ),
    *(
        attack('an image among those looked at before training', image_before, split, d.randrange(16) * n // 16, seed=i)
        for split, n in (('train', 96), ('test', 60))
        for i, d in enumerate(_seeds(4))
    ),
    *(
        attack("a teacher's weight that is not finite", teacher, name, value, seed=i, short=i == 0)
        for i, value in enumerate(VALUES)
        for name in ('backbone.conv1.weight', 'backbone.bn1.running_var', 'head.fc.bias')
    ),
    attack("a teacher's output that is not finite", teacher_overflows, short=True),
    *(
        attack(
            f'a {what} that is not finite', loss, d.randint(1, 12), what == 'gradient', d.choice(VALUES),
            seed=i, short=i == 0,
        )
        for what in ('loss', 'gradient')
        for i, d in enumerate(_seeds(12))
    ),
    *(
        attack('a weight that is not finite', weight, d.randint(1, ITERATIONS), d.choice(VALUES), seed=i, short=i < 2)
        for i, d in enumerate(_seeds(12))
    ),
    *(
        attack('a rate that is far too high', rate, lr, form, seed=int(math.log10(lr)), short=lr == 1e20)
        for lr in (1e12, 1e20, 1e38)
        for form in ('recasting', 'distilling', 'blocks apart')
    ),
    attack('a stage that diverges', diverged, short=True),
    attack('a rate that is far too high, by command', by_command, short=True),
    *(
        attack(
            f'{name}{", blocks apart" if apart else ""}, killed and resumed', resumed_across, name, apart,
            d.randint(1, ITERATIONS), bool(i % 2), seed=i, short=i == 0 and (not apart or name == 'rollback'),
        )
        for name in TAKEN_BACK
        for apart in (False, True)
        for i, d in enumerate(_seeds(8))
    ),
    *(
        attack(f'{name}{", blocks apart" if apart else ""}, two processes', two_processes, name, apart)
        for name, apart in (('restart', False), ('rollback', False), ('rollback', True))
    ),
    attack('an image that is not finite, two processes', two_processes_fail, 41),
]  # fmt: skip
PROMISE = 'Numbers that are not finite are in nothing that a run keeps; it stops, and names what came first.'
NUMBERS = Family('numbers', PROMISE, ATTACKS)
