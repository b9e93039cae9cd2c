"""A run that was interrupted anywhere and goes on ends with the same bits as one that was left alone."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny import (
    NO_VAL,
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

from mmrecast.apis.train import test as judge
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

DROPPING = recasting(
    dict(type='PlainNet', dropout=0.3),
    recipe=[dict(source=['block1', 'block3'], target=dict(type='PlainBlock', dropout=0.2))],
)
STAGES = [
    dict(kind='recast', blocks='block1', epochs=1),
    dict(kind='recast', blocks='block3', iters=4, val=False),
    dict(kind='finetune', epochs=2, param_scheduler=dict(type='StepLR', step_size=1, gamma=0.5)),
]
ALL = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]


@HOOKS.register_module()
class KeepAll(Hook):
    """Keep a copy of the checkpoint of every position."""

    priority = 'LOWEST'

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def at_position(self, runner, kind: str) -> None:
        latest = Path(Path(runner.work_dir, 'last_checkpoint').read_text())
        done = runner.train_loop.state()
        name = f'{len(list(self.folder.iterdir())):03d}_stage{done["stage"]}_iter{done["iter"]}_{kind}.pth'
        shutil.copy(latest, self.folder / name)


def test_from_every_position(tmp_path):
    """Dropout and Xavier starts draw random numbers; stages by epochs and by iterations, batches left in an epoch."""
    kept = tmp_path / 'kept'
    kept.mkdir()
    same = dict(loop=dict(val_interval=1), checkpoint=dict(iter_interval=1))
    whole = run(config(DROPPING, STAGES, hooks=[dict(type='KeepAll', folder=str(kept))], **same), tmp_path / 'whole')
    expected = weights(tmp_path / 'whole')
    positions = sorted(kept.iterdir())
    assert [p.stem.split('_', 1)[1] for p in positions] == [
        *(f'stage0_iter{i}_iter' for i in (1, 2, 3)), 'stage0_iter3_epoch', 'stage1_iter3_stage',
        *(f'stage1_iter{i}_iter' for i in (4, 5, 6)), 'stage1_iter6_epoch', 'stage1_iter7_iter', 'stage1_iter7_epoch',
        'stage2_iter7_stage', *(f'stage2_iter{i}_iter' for i in (8, 9, 10)), 'stage2_iter10_epoch',
        *(f'stage2_iter{i}_iter' for i in (11, 12, 13)), 'stage2_iter13_epoch', 'stage3_iter13_stage',
    ]  # fmt: skip
    wrong = []
    for position in positions:
        resumed = run(config(DROPPING, STAGES, **same), tmp_path / position.stem, resume=str(position))
        if differing(weights(tmp_path / position.stem), expected) or without_seconds(resumed) != without_seconds(whole):
            wrong.append(position.stem)
    assert wrong == []


WARMUP = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=2),
]
SGD = dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
VARIANTS = {
    'closed-form start': (recasting(start=dict(type='closed_form', images=40)), dict()),
    'a connector': (
        recasting(
            classifier(block='bottleneck', depth=11, widths=(2, 3, 4)),
            compare='target',
            connector=dict(type='ConvModuleConnector', norm_cfg=dict(type='BN'), act_cfg=None),
        ),
        dict(),
    ),
    'few earlier blocks': (recasting(earlier=1, next_block='teacher'), dict()),
    'warm-up, momentum and clipping': (
        recasting(),
        dict(
            optim_wrapper=dict(type='OptimWrapper', optimizer=SGD, clip_grad=dict(max_norm=1.0)),
            param_scheduler=WARMUP,
        ),
    ),
    'one-cycle': (recasting(), dict(param_scheduler=dict(type='OneCycleLR', eta_max=0.01, by_epoch=False))),
    'accumulated gradients': (
        recasting(),
        dict(
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3), accumulative_counts=3),
        ),
    ),
    'no validation': (recasting(), NO_VAL),
    'loader processes': (recasting(), dict(train_dataloader=loader('train', 96, 32) | dict(num_workers=1))),
    'batches that end unevenly': (recasting(), dict(train_dataloader=loader('train', 70, 32))),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_killed_within_an_epoch(tmp_path, name):
    """Killed in a recasting stage one iteration after its checkpoint, resumed, killed in fine-tuning, resumed."""
    model, changes = VARIANTS[name]
    cfg = config(model, ALL, checkpoint=dict(iter_interval=1), **changes)
    whole = run(cfg, tmp_path / 'whole')
    last = whole['stages'][-1]
    before_last = sum(stage['iters'] for stage in whole['stages'][:-1])
    for iteration in (6, before_last + 2):
        with pytest.raises(Killed):
            run(cfg, tmp_path / 'killed', dict(kind='iter', n=iteration, before=True), resume=iteration > 6)
        assert load_file((tmp_path / 'killed' / 'last_checkpoint').read_text())['staged']['iter'] == iteration - 1
    resumed = run(cfg, tmp_path / 'killed', resume=True)
    assert differing(weights(tmp_path / 'killed'), weights(tmp_path / 'whole')) == []
    assert without_seconds(resumed) == without_seconds(whole)
    assert (resumed['images'], resumed['top1']) == (whole['images'], whole['top1'])
    assert last['kind'] == 'finetune' and last['iters'] == 5


@pytest.mark.parametrize('position', [('epoch', 2), ('stage', 1)])
def test_killed_at_a_boundary(tmp_path, position):
    """What was trained since the last checkpoint is trained again; nothing else is."""
    cfg = config(DROPPING, STAGES)
    run(cfg, tmp_path / 'whole')
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'killed', dict(kind=position[0], n=position[1], before=True))
    run(cfg, tmp_path / 'killed', resume=True)
    assert differing(weights(tmp_path / 'killed'), weights(tmp_path / 'whole')) == []


def test_finished_run_is_only_judged_again(tmp_path):
    cfg = config(recasting(), ALL)
    whole = run(cfg, tmp_path)
    kept = weights(tmp_path)
    (tmp_path / 'student.pth').unlink()
    (tmp_path / 'result.json').unlink()
    again = run(cfg, tmp_path, dict(kind='iter', n=1), resume=True)
    assert differing(weights(tmp_path), kept) == []
    assert again | dict(name='') == whole | dict(name='')


def test_the_config_that_a_resumed_run_keeps_serves_again(tmp_path):
    """The checkpoint that it went on from is gone by then."""
    path = write(config(recasting(), ALL), tmp_path / 'tiny_config.py')
    with pytest.raises(Killed):
        run(Config.fromfile(path), tmp_path / 'run', dict(kind='iter', n=6))
    result = run(Config.fromfile(path), tmp_path / 'run', resume=True)
    kept = Config.fromfile(tmp_path / 'run' / 'tiny_config.py')
    assert judge(kept, str(tmp_path / 'run' / 'student.pth'), work_dir=str(tmp_path / 'test')) == {
        'accuracy/top1': result['top1']
    }
    run(kept, tmp_path / 'again')
    assert differing(weights(tmp_path / 'again'), weights(tmp_path / 'run')) == []


def test_drawn_seed_is_kept(tmp_path):
    """A config without a seed gets one; a resumed run goes on with it."""
    cfg = config(DROPPING, STAGES, randomness=None)
    with pytest.raises(Killed):
        run(cfg, tmp_path / 'a', dict(kind='epoch', n=2))
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    seed = load_file((tmp_path / 'a' / 'last_checkpoint').read_text())['meta']['seed']
    for elsewhere, folder in enumerate('ab'):
        torch.manual_seed(elsewhere)
        assert run(cfg, tmp_path / folder, resume=True)['seed'] == seed
    assert differing(weights(tmp_path / 'a'), weights(tmp_path / 'b')) == []


def changed(**changes) -> dict:
    """Return the arguments of `config` for the run below with some of them changed."""
    return dict(model=recasting(), stages=ALL) | changes


OTHER_RUNS = {
    'recipe': changed(model=recasting(source='backbone.layer2.*'), stages=ALL),
    'options': changed(model=recasting(earlier=1)),
    'options ': changed(model=recasting(block_loss=dict(type='MSELoss', loss_weight=2.0))),
    'schedule': changed(stages=[ALL[0], dict(kind='finetune', iters=6)]),
    'schedule ': changed(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-3))),
    'schedule  ': changed(param_scheduler=dict(type='StepLR', step_size=2)),
    'seed': changed(randomness=dict(seed=1)),
    'data': changed(train_dataloader=loader('train', 90, 30)),
    'data ': changed(train_dataloader=loader('train', 96, 33)),
    'algorithm': changed(
        model=dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=preprocessor(crop_padding=1)),
        stages=[dict(kind='train', iters=5)],
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory, trained_teacher):
    """The work dir of a run that was killed in its second stage."""
    folder = tmp_path_factory.mktemp('interrupted')
    with pytest.raises(Killed):
        run(config(recasting(teacher_ckpt=trained_teacher), ALL), folder, dict(kind='iter', n=6))
    return folder


@pytest.mark.parametrize('what', OTHER_RUNS)
def test_other_run_is_refused(interrupted, trained_teacher, what):
    other = copy.deepcopy(OTHER_RUNS[what])
    if other['model']['type'] == 'Recasting':
        other['model']['teacher_ckpt'] = trained_teacher
    before = {path.name: path.stat().st_mtime_ns for path in interrupted.glob('*.pth')}
    with pytest.raises(ValueError, match=f'cannot be resumed: it was written with another .*{what.strip()}'):
        run(config(**other), interrupted, resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in interrupted.glob('*.pth')} == before


def test_other_teacher_is_refused(interrupted, trained_teacher, tmp_path):
    state = torch.load(trained_teacher)
    next(iter(state.values())).view(-1)[0] += 1e-6
    torch.save(state, tmp_path / 'other.pth')
    cfg = config(recasting(teacher_ckpt=str(tmp_path / 'other.pth')), ALL)
    with pytest.raises(ValueError, match='written with another teacher'):
        run(cfg, interrupted, resume=True)


def test_another_number_of_processes_is_refused(interrupted, trained_teacher, tmp_path):
    content = load_file((interrupted / 'last_checkpoint').read_text())
    content['random'] *= 2
    torch.save(content, tmp_path / 'two.pth')
    cfg = config(recasting(teacher_ckpt=trained_teacher), ALL)
    with pytest.raises(ValueError, match='written by 2 processes, this run has 1'):
        run(cfg, tmp_path / 'run', resume=str(tmp_path / 'two.pth'))


def test_nothing_to_resume(tmp_path):
    cfg = config(recasting(), ALL)
    with pytest.raises(ValueError, match='nothing to resume in .*: it holds no last_checkpoint'):
        run(cfg, tmp_path / 'new', resume=True)
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/stage000_iter00000003.pth')
    with pytest.raises(ValueError, match='names stage000_iter00000003.pth, which is not there'):
        run(cfg, tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*absent.pth'):
        run(cfg, tmp_path, resume=str(tmp_path / 'absent.pth'))
    assert os.listdir(tmp_path) == ['last_checkpoint']


def test_work_dir_that_was_moved(interrupted, trained_teacher, tmp_path):
    moved = shutil.copytree(interrupted, tmp_path / 'moved')
    (moved / 'last_checkpoint').write_text('/gone/' + Path((interrupted / 'last_checkpoint').read_text()).name)
    result = run(config(recasting(teacher_ckpt=trained_teacher), ALL), moved, resume=True)
    assert [stage['iters'] for stage in result['stages']] == [4, 4, 4, 5]
