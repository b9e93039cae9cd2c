"""Schedules of an algorithm's values: what they are at every step, in logs, checkpoints and after a resume."""

import json
import math

import pytest
import torch
from mmengine.hooks import Hook
from plain_generator import RATES, data_free
from searching import decay, search
from tiny import NO_TEST, NO_VAL, Killed, classifier, config, differing, preprocessor, run, weights, without_seconds

from mmrecast.apis import ready_runner
from mmrecast.engine.budget import within_budget
from mmrecast.engine.checkpoints import read_checkpoint
from mmrecast.engine.scheduled import ScheduledValues, check_stage, split_schedulers, value_schedulers
from mmrecast.registry import HOOKS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5, momentum=0.9))
SEEN: dict[str, list] = {}


@HOOKS.register_module()
class SeenValues(Hook):
    """Note what the model used, and the rates, of a run that may be killed."""

    def before_run(self, runner) -> None:
        SEEN.update(model=runner.bare_model, rates=[])

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        SEEN['rates'].append(runner.optim_wrapper.get_lr()['lr'][0])


def stage(kind='search', scheduler=None, **length):
    return dict(kind=kind, param_scheduler=scheduler, val=False, **length)


def trained(tmp_path, stages, model=None, crash=None, resume=False, **changes):
    """Train and return the values of every step; an epoch is three iterations."""
    quiet = NO_VAL | NO_TEST | dict(optim_wrapper=SGD, param_scheduler=[])
    cfg = config(model or search(), stages, hooks=[dict(type='SeenValues')], **quiet | changes)
    run(cfg, tmp_path, crash, resume=resume)
    return SEEN['model'].used


def taus(*args, **kwargs):
    return [tau for tau, _ in trained(*args, **kwargs)]


def test_a_temperature_falls_by_epochs(tmp_path, recwarn):
    """15·0.956^n in epoch n, beside a rate that has a schedule of its own."""
    used = taus(tmp_path, [stage(scheduler=[dict(type='CosineAnnealingLR'), decay(by_epoch=True)], epochs=4)])
    assert used == pytest.approx([15 * 0.956**n for n in range(4) for _ in range(3)], rel=1e-12)
    assert SEEN['rates'] == pytest.approx([0.25 * (1 + math.cos(math.pi * i / 12)) for i in range(12)])
    assert set(SEEN['model'].scheduled) == {'tau', 'gamma'}
    assert not [w for w in recwarn if 'scheduler.step()' in str(w.message)]  # values have no optimiser that steps


@pytest.mark.parametrize(
    ('scheduler', 'expected'),
    [
        (decay(0.5), [15, 7.5, 3.75, 1.875]),
        (dict(type='LinearParamScheduler', param_name='tau', start_factor=0.4, end_factor=1.0), [6, 9, 12, 15]),
        (dict(type='StepParamScheduler', param_name='tau', step_size=3, gamma=0.1), [15, 15, 15, 1.5]),
        (dict(type='MultiStepParamScheduler', param_name='tau', milestones=[1, 3], gamma=0.2), [15, 3, 3, 0.6]),
        (dict(type='ConstantParamScheduler', param_name='tau', factor=0.2), [3, 3, 3, 15]),
        (dict(type='PolyParamScheduler', param_name='tau', eta_min=3), [15, 11, 7, 3]),
        (dict(type='CosineAnnealingParamScheduler', param_name='tau', eta_min=1), [
            15, 8 + 7 * math.sqrt(0.5), 8, 8 - 7 * math.sqrt(0.5),
        ]),
        (dict(
            type='CosineRestartParamScheduler', param_name='tau', periods=[2, 2], restart_weights=[1, 1], eta_min=1,
        ), [15, 8, 15, 8]),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)  # fmt: skip
def test_every_kind_of_scheduler(tmp_path, scheduler, expected):
    """In a stage of four iterations it counts iterations and lasts as long as the stage."""
    assert taus(tmp_path, [stage(scheduler=scheduler, iters=4)]) == pytest.approx(expected)


def test_every_stage_begins_anew(tmp_path):
    stages = [stage(scheduler=decay(0.5), iters=3), stage(scheduler=decay(0.1, param_name='gamma'), iters=2)]
    used = trained(tmp_path, [*stages, stage('train', iters=1)], search(tau=8.0, gamma=4.0))
    assert used == [(8, 4), (4, 4), (2, 4), (8, 4), (8, pytest.approx(0.4)), (8, 4)]
    assert SEEN['model'].begun == [8, 8, 8]  # already while the stage begins


def test_two_schedules_of_one_value(tmp_path):
    """Warmed up over two iterations, then held, and halved at every epoch."""
    warm = dict(type='LinearParamScheduler', param_name='tau', start_factor=0.5, begin=0, end=3, by_epoch=False)
    used = taus(tmp_path, [stage(scheduler=[warm, decay(0.5, by_epoch=True)], epochs=2)], search(tau=8.0))
    assert used == pytest.approx([4, 6, 8, 4, 4, 4])


def test_a_plateau_lowers_it(tmp_path):
    """The accuracy rises by less than 90 %, so that every epoch after the first counts as a bad one."""
    plateau = dict(
        type='ReduceOnPlateauParamScheduler', param_name='tau', monitor='accuracy/top1', factor=0.5, patience=0,
        rule='greater', threshold=90.0, threshold_rule='abs',
    )  # fmt: skip
    cfg = config(
        search(tau=8.0), [dict(kind='search', epochs=4, param_scheduler=plateau)], dict(val_interval=1),
        hooks=[dict(type='SeenValues')],
    )  # fmt: skip
    run(cfg, tmp_path)
    assert [tau for tau, _ in SEEN['model'].used[::3]] == [8, 8, 4, 2]


def test_a_budget_keeps_where_a_decay_ends(tmp_path):
    """Eight epochs of three iterations in six iterations: tau ends where it would have, and falls at every one."""
    stages = [stage(scheduler=decay(0.5), epochs=8)]
    used = taus(tmp_path, stages, search(tau=256.0), loop=dict(budget=6))
    assert used == pytest.approx([256 * 0.5 ** (8 * i / 6) for i in range(6)])
    (by_iter,) = within_budget([Stage('search', iters=9)], 3, 3, [0], dict(type='ExponentialLR', gamma=0.5))
    assert by_iter.param_scheduler == dict(type='ExponentialLR', gamma=0.125, by_epoch=False)
    wrong = dict(type='ExponentialLR', gamma=-0.5)
    assert within_budget([Stage('search', epochs=3)], 3, 3, [0], wrong)[0].param_scheduler == wrong


def test_several_optimisers_and_one_schedule(tmp_path):
    """It is stepped once, not once for every optimiser, and may stand under any of their names."""
    for i, schedulers in enumerate(
        ([decay(0.5)], dict(generator=[decay(0.5)], student=dict(type='StepLR', step_size=1)))
    ):
        cfg = config(
            data_free(student=dict(type='PlainNet'), teacher=dict(type='PlainNet')),
            [dict(kind='train', iters=3)], optim_wrapper=RATES, param_scheduler=[], **NO_VAL, **NO_TEST,
        )  # fmt: skip
        runner = ready_runner(cfg, work_dir=str(tmp_path / str(i)))
        runner.bare_model.scheduled = dict(tau=8.0)
        runner.set_optimizer(RATES, [schedulers] if isinstance(schedulers, dict) else schedulers)
        assert [one.param_name for one in runner.param_schedulers] == (['tau'] if i == 0 else ['lr', 'tau'])
        found = []
        for _ in range(3):
            found.append(runner.bare_model.scheduled['tau'])
            for one in runner.param_schedulers:
                one.step()
        assert found == [8, 4, 2]


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_values_are_in_the_log(tmp_path, capfd):
    stages = [stage(scheduler=decay(0.956, by_epoch=True), epochs=2)]
    hooks = dict(logger=dict(type='LoggerHook', interval=3), checkpoint=dict(type='StagedCheckpointHook'))
    trained(tmp_path, stages, default_hooks=hooks, log_level='INFO')
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row['tau'], row['gamma']) for row in rows] == [(15, 1e-10), (pytest.approx(14.34), 1e-10)]
    text = capfd.readouterr()
    lines = [line for line in (text.out + text.err).splitlines() if 'loss_task' in line]
    assert 'tau: 15  gamma: 1e-10  ' in lines[0] and 'tau: 14.34  gamma: 1e-10  ' in lines[1]


# ---- resume ----------------------------------------------------------------------------------------------------------

FALLING = [
    stage(scheduler=[decay(0.9), decay(0.5, param_name='gamma', by_epoch=True)], iters=5),
    stage(scheduler=[
        dict(type='LinearParamScheduler', param_name='tau', start_factor=0.2, by_epoch=False),
        decay(0.7, param_name='gamma', by_epoch=True), dict(type='CosineAnnealingLR'),
    ], epochs=2),
]  # fmt: skip


@pytest.mark.parametrize('accumulated', [1, 3])
def test_killed_and_resumed(tmp_path, accumulated):
    """Killed one iteration after a checkpoint: within an epoch, at its end, in the second stage."""
    optim = dict(checkpoint=dict(iter_interval=1), optim_wrapper=SGD | dict(accumulative_counts=accumulated))
    model = search(gamma=1e-2)
    whole = trained(tmp_path / 'whole', FALLING, model, **optim)
    used = []
    for n in (3, 4, 7, 9):
        with pytest.raises(Killed):
            trained(tmp_path / 'cut', FALLING, model, dict(kind='iter', n=n, before=True), bool(used), **optim)
        used += SEEN['model'].used[: n - 1 - len(used)]
        content = load_file((tmp_path / 'cut' / 'last_checkpoint').read_text())
        assert content['staged']['iter'] == n - 1
    used += trained(tmp_path / 'cut', FALLING, model, resume=True, **optim)
    assert used == whole  # bit for bit
    assert len({tau for tau, _ in whole}) > 8 and len({gamma for _, gamma in whole}) == 3
    assert differing(weights(tmp_path / 'cut'), weights(tmp_path / 'whole')) == []
    ours, theirs = (load_file((tmp_path / f / 'last_checkpoint').read_text()) for f in ('cut', 'whole'))
    assert ours['scheduled'] == theirs['scheduled'] and ours['scheduled']['tau'] != 15
    assert differing(ours['state_dict'], theirs['state_dict']) == []
    results = [json.loads((tmp_path / folder / 'result.json').read_text()) for folder in ('cut', 'whole')]
    assert without_seconds(results[0]) == without_seconds(results[1])


def test_a_checkpoint_holds_the_values(tmp_path):
    with pytest.raises(Killed):
        taus(
            tmp_path,
            [stage(scheduler=decay(0.5), iters=4)],
            crash=dict(kind='iter', n=2),
            checkpoint=dict(iter_interval=1),
        )
    path = (tmp_path / 'last_checkpoint').read_text()
    assert read_checkpoint(path)['scheduled'] == dict(tau=3.75, gamma=1e-10)
    runner = ready_runner(config(search(), [stage(iters=4)]), work_dir=str(tmp_path / 'other'))
    runner.load_checkpoint(path)
    assert runner.bare_model.scheduled == dict(tau=3.75, gamma=1e-10)


def test_an_older_checkpoint_still_loads(tmp_path):
    """What goes on from one without the values begins them as the stage does; the schedule's own place is known."""
    stages = [stage(scheduler=decay(0.5, param_name='gamma'), iters=4)]
    with pytest.raises(Killed):
        trained(tmp_path, stages, search(gamma=8.0), dict(kind='iter', n=2), checkpoint=dict(iter_interval=1))
    content = load_file((tmp_path / 'last_checkpoint').read_text())
    del content['scheduled']
    torch.save(content, tmp_path / 'older.pth')
    cfg = config(search(gamma=8.0), stages, hooks=[dict(type='SeenValues')], optim_wrapper=SGD, param_scheduler=[])
    run(cfg, tmp_path / 'resumed', resume=str(tmp_path / 'older.pth'))
    assert SEEN['model'].used == [(15, 8), (15, 4)]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('scheduler', 'match'),
    [
        (decay(param_name='teu'), r"'search': no value to be scheduled is called 'teu' \(nearest: tau"),
        (decay(param_name='gama'), r"no value to be scheduled is called 'gama' \(nearest: gamma"),
        (decay(param_name='momentun'), r"no value to be scheduled is called 'momentun' \(nearest: momentum"),
        (decay(gama=2), "scheduler of tau in stage 'search': ExponentialParamScheduler takes no argument 'gama' .near"),
        (decay(gamma='0.956'), "scheduler of tau in stage 'search': can't multiply sequence"),
        (decay(gamma=float('nan')), 'its schedule drives tau to nan: it must stay finite and at least 0'),
        (decay(gamma=-0.5), 'drives tau to -7.5'),
        (decay(gamma=1e308), 'drives tau to inf'),
        (dict(type='LinearParamScheduler', param_name='tau', start_factor=1.0, end_factor=0.0, begin=3, end=2), 'end'),
        (dict(type='StepParamScheduler', param_name='tau'), 'StepParamScheduler needs the argument .step_size'),
        (dict(type='ExponentialLR', param_name='tau', gamma=0.9), 'takes no param_name: use ExponentialParamScheduler'),
        (dict(type='OneCycleParamScheduler', param_name='tau', eta_max=1.0), 'OneCycle only works for learning rate'),
        (
            dict(type='ExponentialParamSchedule', param_name='tau', gamma=0.9),
            'is not registered.*ExponentialParamSched',
        ),
    ],
)
def test_mistakes_show_before_the_first_batch(tmp_path, scheduler, match):
    cfg = config(search(), [stage(scheduler=scheduler, epochs=2)], optim_wrapper=SGD)
    with pytest.raises((ValueError, KeyError), match=match) as caught:
        ready_runner(cfg, work_dir=str(tmp_path / 'run'))
    assert '\n' not in str(caught.value) and not (tmp_path / 'run').exists()


def test_an_algorithm_without_values(tmp_path):
    model = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=preprocessor())
    with pytest.raises(ValueError, match=r"optimiser of stage 'train': no value .* called 'tau' \(nearest:"):
        ready_runner(config(model, [stage('train', decay(), iters=2)]), work_dir=str(tmp_path / 'run'))


def test_a_schedule_is_tried_to_its_end(capfd):
    """The last of 30 epochs drives it below 0; a shorter stage would not."""
    steps = dict(type='PolyParamScheduler', param_name='tau', eta_min=-1.0, end=30, by_epoch=True, verbose=True)
    values = dict(tau=15.0)
    args = (SGD, [steps], values, 100, 'cpu')
    check_stage(Stage('search', epochs=20), *args)
    held = dict(type='ConstantParamScheduler', param_name='gamma', by_epoch=False)
    check_stage(Stage('search', epochs=20), SGD, [steps, held], values | dict(gamma=1.0), 100, 'cpu')
    with pytest.raises(ValueError, match="scheduler of tau in stage 'search': its schedule drives tau to -0.448"):
        check_stage(Stage('search', epochs=29), *args)
    by_iter = [steps | dict(by_epoch=False)]
    check_stage(Stage('search', iters=20), SGD, by_iter, values, 100, 'cpu')
    with pytest.raises(ValueError, match='drives tau to -0.448'):
        check_stage(Stage('search', iters=29), SGD, by_iter, values, 100, 'cpu')
    assert values == dict(tau=15.0) and 'Adjusting' not in ''.join(capfd.readouterr())


def test_schedulers_are_split():
    step, tau = dict(type='StepLR', step_size=1), decay()
    assert split_schedulers([step, tau, decay(param_name='lr')], dict(tau=1)) == ([tau], [step, decay(param_name='lr')])
    assert split_schedulers([dict(a=tau, b=[step, tau])], dict(tau=1)) == ([tau, tau], [dict(a=[], b=[step])])
    assert split_schedulers([tau], {}) == ([], [tau])


def test_what_schedulers_note_stays_out_of_the_values():
    values = dict(tau=8.0)
    (one,) = value_schedulers([decay(0.5)], values, 3)
    assert one.base_values == [8] and values == dict(tau=8)
    one.step()
    assert values == dict(tau=4)
    values['tau'] = 16.0  # as a resume does
    one.step()
    assert values == dict(tau=8)
    with pytest.raises(ValueError, match='its schedule drives tau to -1'):
        ScheduledValues(values).param_groups[0]['tau'] = -1.0
