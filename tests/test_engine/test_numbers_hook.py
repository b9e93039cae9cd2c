"""When a run stops because of its numbers, and when it does not; tests/torture/wrong_numbers.py has the attacks."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer
from tiny import NO_TEST, NO_VAL, config, recasting, run
from torch.utils._python_dispatch import TorchDispatchMode

from mmrecast.apis import ready_runner
from mmrecast.engine import NumbersHook
from mmrecast.engine.numbers import check_stage_error
from mmrecast.engine.numbers_hook import earliest
from mmrecast.engine.staged_loop import StagedLoop

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=4)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(interval=0), 'interval of the NumbersHook must be a whole number of at least 1, got 0'),
        (dict(gradients=1), 'gradients of the NumbersHook must be True or False, got 1'),
        (dict(diverged=1), 'diverged of the NumbersHook must be a number greater than 1 or None, got 1'),
        (dict(diverged=math.nan), 'diverged of the NumbersHook must be a number greater than 1 or None, got nan'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        NumbersHook(**options)


def looking_at(losses: list[float], scaled: bool = False) -> tuple | None:
    """Return what the hook finds in the losses of a stage so far."""
    hook = NumbersHook()
    hook._wrapper = SimpleNamespace(**(dict(loss_scaler=None) if scaled else {}))
    buffer = HistoryBuffer(losses, [1] * len(losses))
    hub = SimpleNamespace(log_scalars={'train/loss': buffer, 'train/loss_block': buffer, 'train/lr': HistoryBuffer()})
    return hook._found(SimpleNamespace(stage_iter=len(losses)), hub)


def test_the_first_loss_and_its_terms():
    assert looking_at([0.1, 0.2]) is None and looking_at([]) is None
    assert looking_at([0.1, math.inf, 0.2, math.nan]) == (1, 'loss', 'loss_block')


def test_what_came_first_in_several_processes():
    """The averaged gradient is spoilt in the process whose own loss was finite, too."""
    loss, gradient = (1, 'loss', 'loss_block'), (1, 'gradient', '')
    assert earliest([gradient, loss]) == earliest([loss, None, gradient]) == loss
    assert earliest([(0, 'gradient', ''), loss]) == (0, 'gradient', '') and earliest([None, None]) is None


def test_scaled_losses_may_overflow_while_they_find_their_scale():
    assert looking_at([math.inf] * 19 + [0.1] + [math.nan] * 19, scaled=True) is None
    assert looking_at([0.1] + [math.inf] * 20, scaled=True) == (20, 'loss', 'loss_block')


def test_scaled_gradients_are_not_looked_at(monkeypatch):
    hook, parameter = NumbersHook(), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    runner = SimpleNamespace(train_loop=SimpleNamespace(stage_iter=0))
    for wrapper in (SimpleNamespace(optimizer=optimizer, loss_scaler=None), SimpleNamespace(optimizer=optimizer)):
        runner.optim_wrapper = wrapper
        hook.before_train_iter(runner, 0)
        parameter.grad = torch.full((1,), math.inf)
        optimizer.step()
        assert len(hook._flags) == (0 if hasattr(wrapper, 'loss_scaler') else 1)
    assert [flag.item() for _, flag in hook._flags] == [False]


class Reads(TorchDispatchMode):
    """Counts how often the host asks for a tensor's value."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_steps_between_two_looks_do_not_wait_for_the_device(tmp_path, monkeypatch):
    per_step, run_iter = [], StagedLoop.run_iter

    def counted(loop, idx, data_batch):
        with Reads() as reads:
            run_iter(loop, idx, data_batch)
        per_step.append(reads.count)

    monkeypatch.setattr(StagedLoop, 'run_iter', counted)
    looks, look = [], NumbersHook.look
    monkeypatch.setattr(NumbersHook, 'look', lambda self, runner: (looks.append(runner.iter), look(self, runner)))
    cfg = config(recasting(), STAGES, dict(), dict(interval=None), **NO_VAL | NO_TEST)
    ready_runner(cfg, work_dir=str(tmp_path)).train()
    assert len(per_step) == 16 and set(per_step) == {0}
    assert sorted(set(looks)) == [4, 8, 12, 16]  # the stages' ends


def test_interval(tmp_path, monkeypatch):
    looks, look = [], NumbersHook.look
    monkeypatch.setattr(NumbersHook, 'look', lambda self, runner: (looks.append(runner.iter), look(self, runner)))
    hooks = [dict(type='NumbersHook', interval=3)]
    run(config(recasting(), STAGES, None, dict(interval=None), hooks=hooks, **NO_VAL | NO_TEST), tmp_path)
    assert sorted(set(looks)) == [3, 4, 7, 8, 11, 12, 15, 16]


@pytest.mark.parametrize(
    ('start', 'error', 'fine'),
    [(0.1, 0.5, True), (0.1, 99.0, True), (0.1, 101.0, False), (3.0, 299.0, True), (3.0, 301.0, False),
     (None, 101.0, False), (0.1, None, True)],
)  # fmt: skip
def test_divergence(tmp_path, start, error, fine):
    loop = SimpleNamespace(stages=[1, 2])
    runner = SimpleNamespace(train_loop=loop, work_dir=str(tmp_path))
    record = dict(index=1, name='recast a', relative_error_start=start, relative_error=error)
    if fine:
        check_stage_error(runner, record, 100.0)
        return
    with pytest.raises(FloatingPointError, match='stage 2/2 recast a: relative error .* it has diverged: lower the'):
        check_stage_error(runner, record, 100.0)
