"""Every stage of every config, one iteration each, in a whole run with narrow networks; takes minutes."""

import pytest
import torch
from mmengine.config import Config
from narrow import LEAVES, ZOO, CheckEveryStep, narrowed, read
from tiny import differing, weights

from mmrecast.apis import load_student, train
from mmrecast.engine import StagedRunner

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('quick')]
TRIED = [*LEAVES, *(leaf for leaf in ZOO if not leaf.startswith('deit/'))]  # a transformer cannot be made narrow here


def one_iteration_each(leaf: str) -> Config:
    """Return the narrowed config with stages of one iteration, every one of which is checked."""
    cfg = narrowed(leaf)
    cfg.train_cfg.stages = [{**stage, 'epochs': None, 'iters': 1} for stage in cfg.train_cfg.stages]
    for holder in (cfg, *cfg.train_cfg.stages):  # one iteration of a cycle is its end: too slow to change a float
        if isinstance(holder.get('param_scheduler'), list):
            holder.param_scheduler = [one for one in holder.param_scheduler if one['type'] != 'OneCycleLR']
    never = dict(type='NumbersHook', diverged=None)  # one step on five images of noise says nothing of a block
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='CheckEveryStep'), never]
    return cfg


@pytest.mark.parametrize('leaf', TRIED)
def test_every_stage_trains_what_it_should(leaf, tmp_path, monkeypatch):
    monkeypatch.setattr(StagedRunner, '_log_env', lambda *args: None)
    monkeypatch.setattr(CheckEveryStep, 'stages', [])
    torch.manual_seed(0)
    result = train(one_iteration_each(leaf), work_dir=str(tmp_path))
    entries = (result['plan'] or dict(entries=[]))['entries']
    blocks = [f'recast {entry["path"]}' for entry in entries if entry['action'] == 'recast']
    expected = [*blocks, 'finetune'] if leaf.startswith('recasting/') else [s.kind for s in read(leaf).train_cfg.stages]
    stepped = CheckEveryStep.stages
    if any(stage.get('parallel') for stage in read(leaf).train_cfg.stages):  # those that take longest come first
        stepped = sorted(stepped, key=expected.index)
    assert stepped == [stage['name'] for stage in result['stages']] == expected
    assert [stage['images'] for stage in result['stages']] == [5] * len(expected)
    assert dict(type='ResultHook', method=result['method']) == read(leaf).custom_hooks[0]
    assert differing(weights(tmp_path), load_student(tmp_path / 'student.pth').state_dict()) == []
