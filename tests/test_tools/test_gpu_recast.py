"""What the benchmark of precisions runs, sums up and leaves out, on small networks and without a GPU."""

import json
import re
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny import CHAIN, classifier, config, recasting, write

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
TOOL = FOLDER / 'gpu_recast.py'
STAGES = [dict(kind='recast', blocks='all', epochs=2, val=False), dict(kind='finetune', epochs=2)]
NOTHING = dict(budget=None, images=None, stages=None)


@pytest.fixture
def tool(loaded):
    return loaded


@pytest.fixture
def forms(tool):
    return sys.modules['recast_forms']


@pytest.fixture
def small(tmp_path) -> Path:
    """A recasting of three blocks of the digits' ResNet."""
    return write(config(recasting(), STAGES), tmp_path / 'small.py')


def test_everything_in_one_command(call, tool, small, trained_teacher, tmp_path, quick):
    out, plot = tmp_path / 'gpu.json', tmp_path / 'gpu.svg'
    cut = ('--images', 48, '--stages', 2, '--budget', 9)
    given = ('--config', small, '--teacher', trained_teacher, '--device', 'cpu', '--work-dir', tmp_path / 'runs')
    status, printed, _ = call(*given, *cut, '--out', out, '--plot', plot)
    assert status == 0
    content = json.loads(out.read_text())
    runs = {run['name']: run for run in content['runs']}
    left_out = {name: run['left_out'] for name, run in runs.items() if run['left_out']}
    assert left_out['tf32'] == 'tf32 needs a CUDA GPU' and left_out['fp16'] == 'fp16 needs a CUDA GPU'
    assert left_out.keys() == {'tf32', 'fp16'}
    done = [run for run in runs.values() if not run['left_out']]
    assert [run['name'] for run in done] == [
        'as configured', 'fp32', 'bf16', 'fp32, channels first', 'bf16, channels first', 'fp32, channels last',
        'bf16, channels last',
    ]  # fmt: skip
    for run in done:
        assert [stage['name'] for stage in run['stages']] == [*(f'recast {path}' for path in BLOCKS[:2]), 'finetune']
        assert sum(stage['iters'] for stage in run['stages']) == 9
        assert run['finite'] and isinstance(run['converged'], bool) and run['minutes'] > 0
        assert 0 <= run['top1_recast'] <= 100 and run['teacher_top1'] == runs['fp32']['teacher_top1']
        assert run['gpu_utilisation'] is None and run['peak_mebibytes'] is None and run['images_per_second'] > 0
    assert runs['as configured']['top1'] == runs['fp32']['top1'] and runs['fp32']['converged']
    assert runs['bf16']['relative_error'] != runs['fp32']['relative_error']
    assert runs['bf16']['relative_error'] == pytest.approx(runs['fp32']['relative_error'], rel=0.2)
    assert 'tf32 needs a CUDA GPU' in printed and '<svg' in plot.read_text()
    assert 'gpu_recast.py --config' in content['command'] and content['settings']['budget'] == 9

    again = call(*given, *cut, '--parts', 'precision', '--out', out)  # what is finished is read
    assert again[0] == 0
    for run in json.loads(out.read_text())['runs']:
        assert {**run, 'converged': None} == {**runs[run['name']], 'converged': None}


BLOCKS = ['backbone.layer1.0', 'backbone.layer2.0', 'backbone.layer3.0']  # of depth 8


def test_a_config_is_cut_down(forms):
    cfg = config(recasting(classifier(14)), STAGES)
    cut = forms.settle(cfg, 'weights.pth', 7, budget=30, images=40, stages=3)
    assert cut.model.recipe == [dict(source=CHAIN[:3], target='ConvBlock')]
    assert (cut.model.teacher_ckpt, cut.randomness.seed, cut.train_cfg.budget) == ('weights.pth', 7, 30)
    assert [cut[f'{name}_dataloader'].dataset.num_samples for name in ('train', 'val', 'test')] == [40, 40, 40]
    assert [(s['kind'], s.get('blocks'), s.get('val', True)) for s in cut.train_cfg.stages] == [
        ('recast', CHAIN[:2], False), ('recast', [CHAIN[2]], True), ('finetune', None, True),
    ]  # fmt: skip
    assert cfg.model.recipe == [dict(source='backbone.layer*.*', target='ConvBlock')]  # as it was
    whole = forms.settle(cfg, None, 0, **NOTHING)
    assert whole.model.recipe == cfg.model.recipe and 'budget' not in whole.train_cfg
    assert whole.train_dataloader.dataset.num_samples == 96
    assert whole.custom_hooks[-1] == dict(type='StepTimes')


def test_rules_keep_their_blocks(forms):
    recipe = [dict(source=['a.*'], target='One'), dict(source='b.0', target='Two'), dict(source='c', target='Three')]
    known = ['a.0', 'a.1', 'b.0', 'c']
    assert forms.narrowed(recipe, known, ['a.0', 'a.1', 'b.0']) == [
        dict(source=['a.0', 'a.1'], target='One'), dict(source=['b.0'], target='Two'),
    ]  # fmt: skip


def test_stages_of_ones_own_stay(forms):
    stages = [dict(kind='recast', blocks=['a'], iters=1), dict(kind='recast', blocks=['b'], iters=2)]
    assert forms.judged_stages(stages, ['a', 'b']) == stages
    one = forms.judged_stages([dict(kind='recast', iters=1)], ['a'])
    assert one == [dict(kind='recast', iters=1, blocks=['a'], val=True)]


@pytest.mark.parametrize(
    'precision, wrapper',
    [('fp32', 'OptimWrapper'), ('tf32', 'OptimWrapper'), ('bf16', 'Bf16OptimWrapper'), ('fp16', 'AmpOptimWrapper')],
)
def test_a_precision_is_that_of_every_stage(forms, precision, wrapper):
    own = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1))
    cfg = config(recasting(), [STAGES[0], dict(STAGES[1], optim_wrapper=own)])
    found = forms.configured(cfg, forms.Form('x', 'precision', precision))
    assert found.optim_wrapper.type == found.train_cfg.stages[1].optim_wrapper.type == wrapper
    assert found.train_cfg.stages[1].optim_wrapper.optimizer.lr == 0.1
    assert 'optim_wrapper' not in found.train_cfg.stages[0]


def test_a_form_changes_what_it_says(forms):
    cfg = config(recasting(), STAGES)
    same = forms.configured(cfg, forms.Form('as configured', 'whole'))
    assert same.to_dict() == cfg.to_dict() and same is not cfg
    last = forms.configured(cfg, forms.Form('x', 'form', channels_last=True))
    assert last.model.data_preprocessor.channels_last
    first = forms.configured(last, forms.Form('x', 'form', channels_last=False))
    assert first.model.data_preprocessor.channels_last is False
    outside = Config(dict(model=dict(type='Recasting'), data_preprocessor=dict(type='BatchPreprocessor')))
    assert forms.configured(outside, forms.Form('x', 'form', channels_last=True)).data_preprocessor.channels_last


@pytest.mark.parametrize(('precision', 'expected'), [('tf32', True), ('fp32', None), ('bf16', None)])
def test_tf32_is_asked_of_the_runner(forms, precision, expected):
    cfg = Config(dict(model=dict(type='Recasting'), optim_wrapper=dict(type='OptimWrapper'), train_cfg=dict(stages=[])))
    found = forms.configured(cfg, forms.Form('x', 'precision', precision))
    assert found.get('env_cfg', {}).get('tf32') is expected and 'env_cfg' not in cfg


def record(kind, loss, error, top1=None, seconds=30.0):
    return dict(
        name=kind, kind=kind, iters=2, seconds=seconds, relative_error_start=0.5, relative_error=error, loss=loss,
        top1=top1, start_images=8,
    )  # fmt: skip


def timed(rate, use=None, peak=None):
    return dict(images_per_second=rate, gpu_utilisation=use, peak_bytes=peak)


def test_a_run_is_summed_up(forms):
    """Harmonic mean of 100 and 300 images per second: as many images at each."""
    stages = [record('recast', 1.0, 0.25), record('recast', 1.0, 0.125, 80.0), record('finetune', 2.0, 0.1, 90.0)]
    result = dict(stages=stages, seconds=90.0, images=64, top1=91.0, teacher=dict(top1=92.0))
    times = [timed(100.0, 50.0, 2**20), timed(300.0, 70.0, 3 * 2**20), timed(None)]
    run = forms.summary('fp32', result, times, 2.5)
    assert {k: run[k] for k in ('minutes', 'training_minutes', 'images', 'images_per_second')} == dict(
        minutes=2.5, training_minutes=1.5, images=64 + 3 * 8, images_per_second=150.0
    )
    assert (run['gpu_utilisation'], run['peak_mebibytes'], run['relative_error']) == (60.0, 3.0, 0.125)
    assert (run['top1_recast'], run['top1'], run['teacher_top1'], run['finite']) == (80.0, 91.0, 92.0, True)
    assert run['stages'][1]['images_per_second'] == 300.0


def test_a_run_with_numbers_that_are_none_has_not_converged(tool, forms):
    stages = [record('recast', float('nan'), float('inf'), 10.0)]
    result = dict(stages=stages, seconds=1.0, images=2, top1=10.0, teacher=None)
    run = forms.summary('fp16', result, [timed(1.0)], 0.1)
    assert not run['finite'] and run['relative_error'] is None and run['teacher_top1'] is None
    json.dumps(run, allow_nan=False)
    plain, worse = (
        dict(name=name, left_out=None, finite=True, top1=top1) for name, top1 in (('fp32', 90.0), ('x', 88.9))
    )
    near, absent = dict(worse, top1=89.1), dict(name='y', left_out='no GPU')
    tool.judge([plain, run, worse, near, absent], tolerance=1.0)
    assert [r['converged'] for r in (plain, run, worse, near, absent)] == [True, False, False, True, None]
    tool.judge([near], tolerance=1.0)
    assert near['converged'] is None  # nothing to compare it with


def test_what_cannot_be_run_says_why(forms, monkeypatch):
    monkeypatch.setattr(forms.torch.cuda, 'is_available', lambda: True)
    assert forms.Form('x', 'precision', 'fp16').left_out() is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--device', 'cuda'], '--device cuda, but runs would be on cpu: no GPU can be used'),
        (['--stages', 4], '--stages 4, but .*small.py recasts 3 blocks'),
        (['--images', 0], 'images must be at least 1, got 0'),
        (['--plot', 'no/such/gpu.svg'], '--plot no/such/gpu.svg is no file in a folder that is there'),
    ],
)
def test_mistakes_are_told_in_one_line(call, tool, small, arguments, message):
    status, _, error = call('--config', small, *arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])


def test_another_algorithm_is_refused(forms):
    cfg = config(dict(type='SingleTeacherDistill', student=classifier()), STAGES)
    with pytest.raises(ValueError, match='trains SingleTeacherDistill, a Recasting is needed'):
        forms.settle(cfg, None, 0, **NOTHING)
