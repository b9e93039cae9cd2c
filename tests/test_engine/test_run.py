"""A whole run on the tiny problem: stages, records, result and student."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from tiny import NO_TEST, NO_VAL, Killed, classifier, config, differing, loader, recasting, run, weights

from mmrecast.apis import load_student, ready_runner
from mmrecast.datasets import Digits
from mmrecast.models import build_network
from mmrecast.registry import HOOKS

pytestmark = pytest.mark.usefixtures('quick')

BLOCKS = [f'backbone.layer{n}.0' for n in (1, 2, 3)]
STAGES = [
    dict(kind='recast', blocks='all', epochs=4),
    dict(kind='finetune', iters=10, optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))),
]


@HOOKS.register_module()
class Order(Hook):
    """Note in which order the loop calls its hooks."""

    calls: list = []

    def before_train(self, runner) -> None:
        self.calls.clear()

    def before_train_epoch(self, runner) -> None:
        self.calls.append('epoch')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.calls.append(batch_idx)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.calls.append('val')

    def after_stage(self, runner, record) -> None:
        self.calls.append(record['name'])


@pytest.fixture(scope='module')
def done(tmp_path_factory, trained_teacher, quick):
    """The runner and the result of a run that is over, and its work dir."""
    work_dir = tmp_path_factory.mktemp('run')
    model = recasting(teacher_ckpt=trained_teacher)
    runner = ready_runner(config(model, STAGES, hooks=[dict(type='Order')]), work_dir=str(work_dir))
    runner.train()
    return runner, json.loads((work_dir / 'result.json').read_text()), work_dir


def accuracy(network: torch.nn.Module) -> float:
    """Return the top-1 (%) of a network on the 60 images, by plain PyTorch."""
    digits = Digits('test', num_samples=60)
    with torch.no_grad():
        found = network.eval()((digits.images - 77.9) / 95.9).argmax(1)
    return 100 * (found == digits.labels).sum().item() / 60


def test_order(done):
    """Block after block, then fine-tuning; validation at the end of each; an epoch cut short ends a stage by iters."""
    epoch = ['epoch', 0, 1, 2]
    recast = [[*epoch * 4, 'val', f'recast {block}'] for block in BLOCKS]
    assert Order.calls == [*sum(recast, []), *epoch * 3, 'epoch', 0, 'val', 'finetune']


def test_records(done):
    _, result, _ = done
    stages = result['stages']
    assert [(s['index'], s['name'], s['kind'], s['block'], s['epochs'], s['iters'], s['images']) for s in stages] == [
        *((i, f'recast {block}', 'recast', block, 4, 12, 4 * 96) for i, block in enumerate(BLOCKS)),
        (3, 'finetune', 'finetune', None, None, 10, 3 * 96 + 32),
    ]  # fmt: skip
    for stage in stages:
        assert stage['seconds'] > 0 and stage['loss'] > 0 and stage['val_images'] == 60
        assert stage['top1'] * 0.6 == pytest.approx(round(stage['top1'] * 0.6), abs=1e-4)  # so many of 60 images
        assert 0 < stage['relative_error'] < stage['relative_error_start']
    assert stages[0]['relative_error'] < 0.75 * stages[0]['relative_error_start']


def test_result(done, trained_teacher):
    runner, result, work_dir = done
    assert (result['method'], result['seed'], result['dataset'], result['classes']) == ('Recasting', 0, 'Digits', 10)
    assert (result['complete'], result['train_images'], result['input_shape']) == (True, 96, [1, 8, 8])
    assert result['images'] == sum(s['images'] for s in result['stages']) == 3 * 4 * 96 + 320
    assert result['seconds'] == pytest.approx(sum(s['seconds'] for s in result['stages']), abs=0.01)
    assert (result['machine']['processes'], result['machine']['threads']) == (1, 1)
    assert result['versions']['torch'] == torch.__version__
    assert result['plan'] == json.loads(json.dumps(runner.bare_model.plan.to_dict()))
    assert result['val_images'] == 60
    assert result['top1'] == pytest.approx(accuracy(load_student(work_dir / 'student.pth')), abs=1e-3)
    assert result['top1'] == result['stages'][-1]['top1']
    teacher = build_network(classifier())
    teacher.load_state_dict(torch.load(trained_teacher))
    assert result['teacher']['top1'] == pytest.approx(accuracy(teacher), abs=1e-3)
    assert result['teacher']['top1'] > 60


def test_student(done):
    """student.pth holds the bits of the trained student and is a plain network with three convolutions as blocks."""
    runner, _, work_dir = done
    student = load_student(work_dir / 'student.pth')
    assert differing(student.state_dict(), runner.bare_model.student.state_dict()) == []
    assert {type(student.get_submodule(block)).__name__ for block in BLOCKS} == {'ConvBlock'}
    images = torch.randn(3, 1, 8, 8)
    runner.bare_model.eval()
    assert torch.equal(student(images), runner.bare_model.student(images))
    assert not student.training and all(p.requires_grad for p in student.parameters())


def test_closed_form_starts_where_xavier_does_not(done, tmp_path, trained_teacher):
    """Over the same blocks, the first stage starts several times nearer to the teacher."""
    _, result, _ = done
    model = recasting(teacher_ckpt=trained_teacher, start='closed_form')
    solved = run(config(model, [dict(kind='recast', iters=0), STAGES[1]]), tmp_path)
    assert [s['iters'] for s in solved['stages']] == [0, 0, 0, 10]
    assert [s['images'] for s in solved['stages'][:3]] == [0, 0, 0]
    start, xavier = (r['stages'][0]['relative_error_start'] for r in (solved, result))
    assert start < 0.25 * xavier
    assert solved['stages'][0]['loss'] is None and solved['stages'][0]['relative_error'] == start


def test_same_seed_same_bits(done, tmp_path, trained_teacher):
    """A second run has the same weights, another seed others."""
    run(config(recasting(teacher_ckpt=trained_teacher), STAGES), tmp_path / 'again')
    assert differing(weights(tmp_path / 'again'), weights(done[2])) == []
    short = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]
    for seed in (0, 1):
        run(config(recasting(teacher_ckpt=trained_teacher), short, randomness=dict(seed=seed)), tmp_path / str(seed))
    assert differing(weights(tmp_path / '0'), weights(tmp_path / '1'))


def test_partial_result(tmp_path):
    """result.json is there after the first stage already."""
    with pytest.raises(Killed):
        run(config(recasting(), STAGES), tmp_path, dict(kind='stage', n=1))
    result = json.loads((tmp_path / 'result.json').read_text())
    assert not result['complete'] and len(result['stages']) == 1 and result['top1'] == result['stages'][0]['top1']
    assert not (tmp_path / 'student.pth').exists()


def test_validation_within_a_stage(tmp_path):
    """Every second epoch, and once at the end; not at all where a stage says so."""
    stages = [dict(kind='recast', blocks=BLOCKS[0], epochs=4), dict(kind='recast', epochs=1, val=False), STAGES[1]]
    result = run(config(recasting(), stages, loop=dict(val_interval=2), hooks=[dict(type='Order')]), tmp_path)
    calls = [call for call in Order.calls if not isinstance(call, int)]
    assert calls[:7] == ['epoch', 'epoch', 'val', 'epoch', 'epoch', 'val', f'recast {BLOCKS[0]}']
    assert calls[7:11] == ['epoch', f'recast {BLOCKS[1]}', 'epoch', f'recast {BLOCKS[2]}']
    assert [(s['top1'] is None, s['val_images']) for s in result['stages'][:3]] == [
        (False, 60),
        (True, None),
        (True, None),
    ]


def test_without_validation(tmp_path):
    """The relative error is then measured on training images."""
    stages = [dict(kind='recast', iters=2), dict(kind='finetune', iters=1)]
    result = run(config(recasting(), stages, **NO_VAL, **NO_TEST), tmp_path)
    assert (result['top1'], result['teacher'], result['val_images']) == (None, None, None)
    assert all(s['top1'] is None and s['relative_error'] > 0 for s in result['stages'])


def test_progress_is_logged(tmp_path):
    """A training line says which stage it is; a stage that is over is summed up in one line."""
    cfg = config(recasting(source='backbone.layer3.*'), [dict(kind='recast', iters=2), STAGES[1]], log_level='INFO')
    cfg.default_hooks.logger.interval = 1
    run(cfg, tmp_path)
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert '[1/2 recast backbone.layer3.0' in text and '[2/2 finetune, 0:00:00 left]' in text
    assert 'stage 1/2 recast backbone.layer3.0 done: 64 images' in text
    assert 'relative error' in text and 'top-1' in text and 'on 60 images' in text


def test_stages_of_a_distiller_continue_one_another(tmp_path):
    """Two `train` stages with their own optimisers: the second goes on from the first's weights."""
    model = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=recasting()['data_preprocessor'])
    none = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
    one, two = dict(kind='train', iters=4), dict(kind='train', iters=3, optim_wrapper=none)
    run(config(model, [one]), tmp_path / 'one')
    result = run(config(model, [one, two]), tmp_path / 'two')
    assert [s['name'] for s in result['stages']] == ['train', 'train'] and result['plan'] is None
    changed = differing(weights(tmp_path / 'one'), weights(tmp_path / 'two'))
    assert changed and all('running' in name or 'num_batches' in name for name in changed)


def test_early_stopping_ends_a_stage_only(tmp_path):
    """What sets ``stop_training`` in one stage leaves the next ones as they are."""
    stop = dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=1, min_delta=1000)
    stages = [dict(kind='recast', epochs=9), dict(kind='finetune', iters=3)]
    result = run(config(recasting(), stages, loop=dict(val_interval=1), hooks=[stop]), tmp_path)
    lengths = [s['iters'] for s in result['stages']]
    assert all(3 <= length < 27 for length in lengths[:3]) and lengths[3] == 3


def test_smaller_last_batch_counts(tmp_path):
    cfg = config(recasting(), [dict(kind='recast', epochs=2), dict(kind='finetune', iters=1)],
                 train_dataloader=loader('train', 70, 32))  # fmt: skip
    assert [s['images'] for s in run(cfg, tmp_path)['stages']] == [140, 140, 140, 32]
