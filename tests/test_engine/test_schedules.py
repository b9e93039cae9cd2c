"""Optimisers and schedulers of stages."""

import pytest
from mmengine.hooks import Hook
from tiny import NO_TEST, NO_VAL, classifier, config, loader, recasting, run

from mmrecast.apis import ready_runner
from mmrecast.registry import HOOKS

pytestmark = pytest.mark.usefixtures('quick')

RATES: list[list[float]] = []
MODEL = dict(type='SingleTeacherDistill', student=classifier(), data_preprocessor=recasting()['data_preprocessor'])


@HOOKS.register_module()
class Rates(Hook):
    """Note the learning rate of every iteration, one list per stage."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        while len(RATES) <= runner.train_loop.stage_index:
            RATES.append([])
        RATES[-1].append(runner.optim_wrapper.get_lr()['lr'][0])


def sgd(name: str = 'SGD', paramwise_cfg: dict | None = None, **arguments) -> dict:
    """Return the config of an optimiser wrapper."""
    arguments = arguments or dict(lr=0.8)
    return dict(type='OptimWrapper', optimizer=dict(type=name, **arguments), paramwise_cfg=paramwise_cfg)


def rates(tmp_path, stages, **changes) -> list[list[float]]:
    RATES.clear()
    model = changes.pop('model', MODEL)
    changes = dict(optim_wrapper=sgd(), param_scheduler=None) | NO_VAL | NO_TEST | changes
    run(config(model, stages, hooks=[dict(type='Rates')], **changes), tmp_path)
    return [[round(rate, 6) for rate in stage] for stage in RATES]


def train(scheduler=None, **length):
    return dict(kind='train', param_scheduler=scheduler, **length)


def test_lengths_default_to_the_stage(tmp_path):
    """A cosine falls over the iterations of its stage, by epoch only if told so; an epoch is three iterations here."""
    cosine = dict(type='CosineAnnealingLR')
    slow = cosine | dict(by_epoch=True)
    stages = [train(slow, epochs=2), train(cosine, epochs=2), train(cosine, iters=4), train(iters=2)]
    by_epoch, smooth, by_iter, _ = rates(tmp_path, stages)
    assert by_epoch == [0.8] * 3 + [0.4] * 3
    assert smooth == pytest.approx([0.8, 0.746410, 0.6, 0.4, 0.2, 0.053590], abs=1e-6)
    assert by_iter == pytest.approx([0.8, 0.682843, 0.4, 0.117157], abs=1e-6)


def test_own_lengths(tmp_path):
    step = dict(type='StepLR', step_size=1, gamma=0.5)
    warm = [
        dict(type='LinearLR', start_factor=0.25, begin=0, end=3, by_epoch=False),
        dict(type='MultiStepLR', milestones=[1]),
    ]
    stepped, warmed = rates(tmp_path, [train(step, epochs=3), train(warm, epochs=2)])
    assert stepped == [0.8] * 3 + [0.4] * 3 + [0.2] * 3
    assert warmed == pytest.approx([0.2, 0.5, 0.8, 0.08, 0.08, 0.08])


@pytest.mark.parametrize(
    ('scheduler', 'expected'),
    [
        (dict(type='LinearLR', start_factor=0.5, by_epoch=False), [0.4, 0.533333, 0.666667, 0.8]),
        (dict(type='ConstantLR', factor=0.5, by_epoch=False), [0.4, 0.4, 0.4, 0.8]),
        (dict(type='PolyLR', by_epoch=False), [0.8, 0.533333, 0.266667, 0.0]),
        (dict(type='ExponentialLR', gamma=0.5, by_epoch=False), [0.8, 0.4, 0.2, 0.1]),
        (dict(type='OneCycleLR', eta_max=0.8, pct_start=0.5, anneal_strategy='linear', final_div_factor=1.0),
         [0.032, 0.8, 0.416, 0.032]),
        (dict(type='CosineAnnealingLR', convert_to_iter_based=True, T_max=2), [0.8, 0.746410, 0.6, 0.4]),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)  # fmt: skip
def test_every_kind_of_scheduler(tmp_path, scheduler, expected):
    """In a stage of four iterations, by its own end where none is given."""
    assert rates(tmp_path, [train(scheduler, iters=4)]) == [pytest.approx(expected, abs=1e-5)]


def test_auto_scale_lr_in_every_stage(tmp_path):
    """A batch of 32 where 128 is the base: a quarter of every stage's own rate, once."""
    stages = [
        dict(kind='recast', iters=2, param_scheduler=dict(type='StepLR', step_size=2)),
        dict(kind='finetune', iters=4, optim_wrapper=sgd(lr=0.4), param_scheduler=dict(type='CosineAnnealingLR')),
    ]
    found = rates(tmp_path, stages, model=recasting(), auto_scale_lr=dict(enable=True, base_batch_size=128))
    assert found[:3] == [[0.2, 0.2]] * 3
    assert found[3] == pytest.approx([0.1, 0.085355, 0.05, 0.014645], abs=1e-6)


def test_gradients_accumulate_within_a_stage(tmp_path):
    """Two of three iterations make a step, the last of a stage makes one in any case."""
    steps = []

    @HOOKS.register_module(force=True)
    class Steps(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            state = next(iter(runner.optim_wrapper.optimizer.state.values()), {'step': 0})
            steps.append(int(state['step']))

    adam = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3), accumulative_counts=2)
    stages = [dict(kind='train', iters=3), dict(kind='train', iters=4)]
    run(config(MODEL, stages, hooks=[dict(type='Steps')], optim_wrapper=adam), tmp_path)
    assert steps == [0, 1, 2, 0, 1, 1, 2]


def test_parameter_groups_hold_what_trains(tmp_path):
    """paramwise_cfg makes a group per parameter; those of frozen ones are not there."""
    held = []

    @HOOKS.register_module(force=True)
    class Groups(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            groups = runner.optim_wrapper.optimizer.param_groups
            held.append({(tuple(p.shape), g['weight_decay']) for g in groups for p in g['params']})
            assert all(g['params'] and all(p.requires_grad for p in g['params']) for g in groups)

    wrapper = sgd(lr=0.1, weight_decay=0.1, paramwise_cfg=dict(norm_decay_mult=0.0))
    stages = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]
    model = recasting(earlier=0, next_block='frozen')
    run(config(model, stages, hooks=[dict(type='Groups')], optim_wrapper=wrapper), tmp_path)
    assert held[0] == {((4, 4, 3, 3), 0.1), ((4,), 0.0)}
    assert ((10, 8), 0.1) in held[3] and ((8,), 0.0) in held[3]


ENDLESS = loader('train', 96, 32) | dict(sampler=dict(type='InfiniteSampler'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(optim_wrapper=sgd(lr=-0.1)), 'lr|learning rate'),
        (dict(optim_wrapper=sgd('SDG')), "'SDG' is not registered"),
        (dict(optim_wrapper=sgd() | dict(type='OptimWraper')), "'OptimWraper' is not registered"),
        (dict(optim_wrapper=sgd(rl=0.1)), 'rl'),
        (dict(param_scheduler=dict(type='CosineLR')), "'CosineLR' is not registered"),
        (dict(param_scheduler=dict(type='LinearLR', begin=5, end=3)), 'end'),
        (dict(param_scheduler=dict(type='StepLR')), 'step_size'),
        (dict(loop=dict(val_interval=0)), 'val_interval .* must be a whole number of at least 1, got 0'),
        (dict(loop=dict(probe_images=-3)), 'probe_images .* must be a whole number of at least 1, got -3'),
        (dict(train_dataloader=ENDLESS), 'InfiniteSampler has no epochs'),
        (dict(train_dataloader=loader('train', 20, 32) | dict(drop_last=True)), 'the training data gives no batch'),
    ],
)  # fmt: skip
def test_mistakes_show_before_the_first_batch(tmp_path, changes, message):
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        ready_runner(config(MODEL, [dict(kind='train', iters=2)], **changes), work_dir=str(tmp_path))
