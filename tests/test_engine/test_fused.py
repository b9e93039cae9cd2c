"""Optimisers take PyTorch's fused step where the config leaves it open: the same weights, and resume keeps what was."""

import pytest
import torch
from tiny import NO_TEST, NO_VAL, Killed, config, recasting, run, weights
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mmrecast.apis import ready_runner
from mmrecast.engine.optimizers import fused
from mmrecast.utils.checkpoint import load_file, save_file

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]


def wrapped(**optimizer) -> dict:
    return dict(type='OptimWrapper', optimizer=optimizer)


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD'])
def test_it_is_asked_for_and_the_config_stays_as_it_was(name):
    cfg = wrapped(type=name, lr=0.1)
    assert fused(cfg) == wrapped(type=name, lr=0.1, fused=True)
    assert cfg == wrapped(type=name, lr=0.1)


@pytest.mark.parametrize(
    'optimizer',
    [dict(type='RMSprop'), dict(type='Adam', fused=False), dict(type='SGD', foreach=True), dict(differentiable=True)],
)
def test_what_the_config_says_holds(optimizer):
    assert fused(wrapped(lr=0.1, **optimizer)) == wrapped(lr=0.1, **optimizer)


def test_several_optimisers_are_fused_one_by_one():
    cfg = dict(type='OptimWrapper', student=wrapped(type='SGD', lr=0.1), generator=wrapped(type='Adagrad', lr=0.2))
    found = fused(cfg)
    assert found['student']['optimizer'] == dict(type='SGD', lr=0.1, fused=True)
    assert found['generator']['optimizer'] == dict(type='Adagrad', lr=0.2)
    assert found['type'] == 'OptimWrapper'


@pytest.mark.parametrize('optimizer', [dict(type='Adam', lr=1e-2), dict(type='SGD', lr=0.1, momentum=0.9)])
def test_the_weights_are_those_of_the_plain_step(tmp_path, optimizer):
    found = {}
    for name, extra in dict(open={}, plain=dict(fused=False, foreach=False)).items():
        cfg = config(recasting(), STAGES, optim_wrapper=wrapped(**optimizer, **extra), **NO_VAL, **NO_TEST)
        run(cfg, tmp_path / name)
        found[name] = weights(tmp_path / name)
    for name, value in found['plain'].items():
        torch.testing.assert_close(found['open'][name], value, rtol=1e-3, atol=1e-4)


def test_a_run_that_began_without_goes_on_without(tmp_path):
    """As one of a former version, whose checkpoints say ``fused=None``."""
    with pytest.raises(Killed):
        run(config(recasting(), STAGES, checkpoint=dict(iter_interval=1), **NO_VAL, **NO_TEST), tmp_path / 'cut',
            dict(kind='iter', n=6))  # fmt: skip
    path = tmp_path / 'cut' / (tmp_path / 'cut' / 'last_checkpoint').read_text().rsplit('/')[-1]
    content = load_file(path)
    assert [group['fused'] for group in content['optimizer']['param_groups']] == [True]
    content['optimizer']['param_groups'][0]['fused'] = None
    save_file(content, path)
    runner = ready_runner(config(recasting(), STAGES, **NO_VAL, **NO_TEST), work_dir=str(tmp_path / 'cut'), resume=True)
    used = []
    restore = runner.restore_training

    def noting(content):
        restore(content)
        used.append(runner.optim_wrapper.optimizer.param_groups[0]['fused'])

    runner.restore_training = noting
    runner.train()
    assert used == [None] and runner.optim_wrapper.optimizer.param_groups[0]['fused'] is True  # the stages behind


def test_gradients_lie_in_memory_as_their_weights(tmp_path):
    """The fused step of CPUs goes through memory: a gradient laid out otherwise would reach other weights."""
    model = recasting()
    model['data_preprocessor']['channels_last'] = True
    runner = ready_runner(config(model, STAGES, **NO_VAL, **NO_TEST), work_dir=str(tmp_path / 'run'))
    seen = []

    def look(optimizer, args, kwargs):
        params = [p for group in optimizer.param_groups for p in group['params']]
        seen.extend(
            (p.stride(), p.grad.stride(), s['exp_avg'].stride())
            for p in params
            if p.dim() == 4 and min(p.shape[1:]) > 1 and (s := optimizer.state.get(p))
        )

    handle = register_optimizer_step_pre_hook(look)
    try:
        runner.train()
    finally:
        handle.remove()
    assert len(seen) > 20 and all(a == b == c for a, b, c in seen)
