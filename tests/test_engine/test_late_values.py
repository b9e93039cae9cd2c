"""Losses are read when a line is logged, and what is logged, kept and shown is what reading them at once gives."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from tiny import NO_TEST, NO_VAL, config, recasting
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmrecast.apis import ready_runner
from mmrecast.engine import late_values
from mmrecast.engine.late_values import LateHistory, LateInfoHook, LateValues
from mmrecast.engine.staged_loop import StagedLoop
from mmrecast.registry import HOOKS
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

STAGES = [dict(kind='recast', blocks='all', iters=5), dict(kind='finetune', iters=7)]
LINES = dict(logger=dict(type='LoggerHook', interval=2))


class Reads(TorchDispatchMode):
    """Counts how often a tensor's values are asked for by the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch):
    """What was read in each iteration of the loop, hooks included."""
    per_step, run_iter, tolist = [], StagedLoop.run_iter, Tensor.tolist
    counter = Reads()

    def counted(loop, idx, data_batch):
        counter.count = 0
        with counter:
            run_iter(loop, idx, data_batch)
        per_step.append(counter.count)

    def listed(tensor):
        counter.count += 1
        return tolist(tensor)

    monkeypatch.setattr(StagedLoop, 'run_iter', counted)
    monkeypatch.setattr(Tensor, 'tolist', listed)
    return per_step


def trained(tmp_path, name='run', stages=STAGES, **changes):
    cfg = config(recasting(), stages, **NO_VAL, **NO_TEST, **changes)
    cfg.default_hooks.update(LINES)
    runner = ready_runner(cfg, work_dir=str(tmp_path / name))
    runner.train()
    return runner


def test_the_host_waits_once_for_each_line_of_the_log(tmp_path, reads):
    """A line comes behind the second iteration of each epoch, which has three."""
    trained(tmp_path)
    recast, finetune = [0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0, 0]
    assert reads == recast * 3 + finetune


def test_mmengines_hook_waits_at_every_step(tmp_path, reads, monkeypatch):
    """The count above means something: two losses in a recasting stage, three in fine-tuning."""
    monkeypatch.setitem(LINES, 'runtime_info', dict(type='RuntimeInfoHook'))
    trained(tmp_path)
    assert reads == [2] * 15 + [3] * 7


def logged(runner) -> list[dict]:
    """Return the lines of the log but for times."""
    (path,) = Path(runner.work_dir).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith('time')} for line in lines if 'loss' in line]


def histories(content: dict) -> dict[str, tuple]:
    """Return what a checkpoint holds of histories, but for times."""
    scalars = content['message_hub']['log_scalars']
    return {k: tuple(map(tuple, v.data)) for k, v in scalars.items() if not k.endswith('time')}


def test_logs_and_checkpoints_hold_the_same_numbers(tmp_path, monkeypatch):
    late = trained(tmp_path, 'late')
    monkeypatch.setitem(LINES, 'runtime_info', dict(type='RuntimeInfoHook'))
    early = trained(tmp_path, 'early')
    assert len(logged(late)) == 8 and logged(late) == logged(early)
    one, other = (load_file(Path(runner.work_dir, (Path(runner.work_dir) / 'last_checkpoint').read_text()))
                  for runner in (late, early))  # fmt: skip
    assert {type(history) for history in one['message_hub']['log_scalars'].values()} == {HistoryBuffer}
    assert histories(one) == histories(other) and len(histories(one)['train/loss'][0]) == 7


@HOOKS.register_module()
class Looking(Hook):
    """Looks at the loss in every step, as a user's hook may."""

    seen: list = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        current = runner.message_hub.get_scalar('train/loss').current()
        self.seen.append((float(current), outputs['loss'].item()))


def test_who_looks_sees_the_newest_value(tmp_path):
    Looking.seen.clear()
    trained(tmp_path, hooks=[dict(type='Looking')])
    assert len(Looking.seen) == 22 and all(seen == given for seen, given in Looking.seen)


@pytest.fixture
def hub(request):
    return MessageHub.get_instance(f'late_{request.node.name}')


def test_a_history_keeps_order_dtype_and_length(hub):
    late = LateValues()
    hub.update_scalar('train/x', 0.5)
    for value in (torch.tensor(1.5), torch.tensor([[2.0]], dtype=torch.float64), torch.tensor(0.1)):
        late.add(hub, 'train/x', value)
    late.add(hub, 'train/n', torch.tensor(3))
    hub.update_scalar('train/x', 7.0)  # behind those that wait
    x, n = hub.get_scalar('train/x'), hub.get_scalar('train/n')
    assert x.data[0].tolist() == [0.5, 1.5, 2.0, np.float32(0.1).item(), 7.0] and x.data[1].tolist() == [1] * 5
    assert (x.current(), x.max(), x.min(), x.mean(2)) == (7.0, 7.0, np.float32(0.1), (7 + np.float32(0.1).item()) / 2)
    assert n.current() == 3 and n.data[0].dtype.kind == 'i'
    x.max_length = 2
    late.add(hub, 'train/x', torch.tensor(8.0))
    assert x.data[0].tolist() == [7.0, 8.0]


def test_a_value_written_over_later_counts_as_it_was(hub):
    late, value = LateValues(), torch.tensor(1.0)
    late.add(hub, 'train/x', value)
    value += 1
    assert hub.get_scalar('train/x').current() == 1.0


def test_values_do_not_pile_up_where_nobody_looks(hub, monkeypatch):
    monkeypatch.setattr(late_values, 'LIMIT', 4)
    late, pending = LateValues(), []
    for step in range(6):
        late.add(hub, 'train/x', torch.tensor(float(step)))
        pending.append(len(late._waiting))
    assert pending == [1, 2, 3, 0, 1, 2]
    assert hub.get_scalar('train/x').data[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_no_graph_is_kept(hub):
    late, weight = LateValues(), torch.ones(1, requires_grad=True)
    late.add(hub, 'train/x', (2 * weight).sum())
    assert not any(value.requires_grad for _, value in late._waiting)


def test_what_is_no_single_tensor_goes_mmengines_way(hub):
    class Runner:
        message_hub = hub

    hook = LateInfoHook()
    hook.after_train_iter(Runner, 0, outputs=dict(loss=torch.tensor(2.0), share=0.25, none=np.float64(4)))
    assert [hub.get_scalar(f'train/{name}').current() for name in ('loss', 'share', 'none')] == [2.0, 0.25, 4.0]
    assert isinstance(hub.get_scalar('train/loss'), LateHistory)
    with pytest.raises(AssertionError):
        hook.after_train_iter(Runner, 0, outputs=dict(loss=torch.ones(2)))


def test_a_copy_is_a_plain_history_that_can_be_resumed(hub):
    late = LateValues()
    late.add(hub, 'train/x', torch.tensor(1.5))
    state = pickle.loads(pickle.dumps(hub.state_dict()))
    assert type(state['log_scalars']['train/x']) is HistoryBuffer
    other = MessageHub.get_instance(f'{hub.instance_name}_resumed')
    other.load_state_dict(state)
    late.add(other, 'train/x', torch.tensor(2.5))
    assert other.get_scalar('train/x').data[0].tolist() == [1.5, 2.5]
    assert hub.get_scalar('train/x').data[0].tolist() == [1.5]
