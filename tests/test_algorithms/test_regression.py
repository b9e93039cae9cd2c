"""Blocks that their stage made worse: what is judged, and what becomes of the student."""

import math

import pytest
import torch
from tiny import NO_TEST, classifier, config, differing, recasting, run, tensors

from mmrecast.algorithms.regression import Regression
from mmrecast.apis import load_student, ready_runner
from mmrecast.registry import MODELS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

SOLVED = dict(start=dict(type='closed_form', images=40))
BLOCKS = [f'backbone.layer{n}.0' for n in (1, 2, 3)]
HOT = dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=3.0)))
RECAST = [dict(kind='recast', blocks='all', iters=3)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(on_regression='undo'), 'on_regression must be one of keep, stop, restart, rollback, got .undo.'),
        (dict(on_regression='stop'), "on_regression='stop' needs max_error, or start='closed_form' to compare with"),
        (dict(on_regression='restart', max_error=1.0), "'restart' goes back to a closed-form start: set start="),
        (dict(on_regression='stop', max_error=0), 'max_error must be a relative error greater than 0, got 0'),
        (dict(on_regression='stop', max_error=math.nan), 'max_error must be a relative error greater than 0, got nan'),
        (dict(max_error=0.5), "max_error is what on_regression goes by: set that to 'stop' or 'rollback'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(recasting(**options))


def test_widths_that_change_cannot_be_rolled_back():
    """Told before anything is trained; a run that only stops, or restarts, may change them."""
    narrow = [dict(source='backbone.layer1.0', target=dict(type='ConvBlock', width_ratio=0.5))]
    with pytest.raises(ValueError, match=r"'rollback': block 'backbone.layer1.0' cannot be kept .*keep the widths"):
        MODELS.build(recasting(recipe=narrow, on_regression='rollback', max_error=0.1))
    MODELS.build(recasting(recipe=narrow, on_regression='restart', **SOLVED))


@pytest.mark.parametrize(
    ('limit', 'solved', 'error', 'start', 'worse'),
    [
        (None, True, 0.2, 0.1, 'relative error 0.2 after training, 0.1 at its closed-form start'),
        (None, True, 0.1, 0.1, None), (0.5, True, 0.6, 0.7, 'relative error 0.6, max_error is 0.5'),
        (0.5, False, 0.4, 0.1, None), (0.5, False, 0.6, 9.0, 'relative error 0.6, max_error is 0.5'),
        (0.5, True, None, None, None),
    ],
)  # fmt: skip
def test_what_is_worse(limit, solved, error, start, worse):
    assert Regression('stop', limit, solved).worse(error, start) == worse
    assert Regression('keep', None, solved).worse(error, start) is None


def finished(tmp_path, **options):
    """Return algorithm and result of a run whose rate is far too high."""
    runner = ready_runner(config(recasting(**options), RECAST, **HOT | NO_TEST), work_dir=str(tmp_path))
    runner.train()
    return runner.bare_model, runner.train_loop.history


def test_rolled_back_is_the_teacher(tmp_path):
    """All that the stage had trained beside the block is as it was before, too."""
    model, history = finished(tmp_path, on_regression='rollback', **SOLVED)
    assert [record['regression'] for record in history] == ['rolled back to the source block'] * 3
    assert [record['relative_error'] for record in history] == [0, 0, 0]
    assert all(r['relative_error_trained'] > r['relative_error_start'] for r in history)
    assert differing(tensors(model.student), tensors(model.teacher)) == []
    assert {entry.action for entry in model.student_plan.entries} == {'keep'} and model.plan.steps == [0, 1, 2]
    student = load_student(tmp_path / 'student.pth')
    assert differing(tensors(student), tensors(model.teacher)) == []
    assert load_file(tmp_path / 'student.pth')['plan'] == model.student_plan.to_dict()


def test_restarted_is_the_start(tmp_path):
    model, history = finished(tmp_path / 'hot', on_regression='restart', **SOLVED)
    assert [record['regression'] for record in history] == ['back to its start'] * 3
    assert [r['relative_error'] for r in history] == [r['relative_error_start'] for r in history]
    assert {entry.action for entry in model.student_plan.entries} == {'recast'}
    empty = run(config(recasting(**SOLVED), [dict(kind='recast', blocks='all', iters=0)]), tmp_path / 'empty')
    assert history[0]['relative_error'] == pytest.approx(empty['stages'][0]['relative_error'])


def test_stopped(tmp_path):
    with pytest.raises(FloatingPointError, match=r'stage 1/3 recast backbone.layer1.0, iteration 3/3: .*closed-form'):
        finished(tmp_path, on_regression='stop', **SOLVED)


def test_some_are_rolled_back(tmp_path):
    """Blocks whose error is small enough stay recast, and the next ones are recast behind those of the teacher."""
    errors = [r['relative_error'] for r in finished(tmp_path / 'kept', **SOLVED)[1]]
    limit = sorted(errors)[1] + 1e-3
    model, history = finished(tmp_path / 'some', on_regression='rollback', max_error=limit)
    taken = [record['block'] for record in history if record.get('regression')]
    assert [entry.path for entry in model.student_plan.entries if entry.action == 'keep'] == taken
    for entry in model.student_plan.entries:
        kind = type(model.student.get_submodule(entry.path)).__name__
        assert kind == ('BasicBlock' if entry.path in taken else 'ConvBlock')
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load_student(tmp_path / 'some' / 'student.pth')(x), model.student.eval()(x))


def test_blocks_apart(tmp_path):
    cfg = config(
        recasting(block_input='teacher', on_regression='rollback', max_error=1e-9), [RECAST[0] | dict(parallel=True)]
    )
    result = run(cfg, tmp_path)
    assert [record['regression'] for record in result['stages']] == ['rolled back to the source block'] * 3
    assert {entry['action'] for entry in result['plan']['entries']} == {'keep'}


def test_keeping_asks_for_nothing_more():
    """The option's default leaves fingerprints and checkpoints as they were."""
    model = MODELS.build(recasting(classifier()))
    assert model.structure() == {} and 'on_regression' not in model.fingerprint()['options']
    assert 'on_regression' in MODELS.build(recasting(on_regression='stop', max_error=1.0)).fingerprint()['options']
