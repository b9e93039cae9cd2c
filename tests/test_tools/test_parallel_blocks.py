"""What the benchmark of blocks apart measures: steps in turns, times and weights of two runs."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmrecast.utils.config_file import read_config

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'benchmarks' / 'parallel_blocks.py'
DIGITS = ROOT / 'configs/distill/recasting/recasting_resnet56_convnet_digits.py'


@pytest.fixture
def cfg(tool):
    cfg = read_config(DIGITS)
    cfg.model.teacher_ckpt = None
    return tool.timed_config(cfg, iters=1, batch_size=4, start_images=4, seed=0, data_root=None)


def test_the_config_trains_blocks_apart_and_nothing_else(cfg):
    assert cfg.model.block_input == 'teacher' and cfg.model.start == dict(type='closed_form', images=4)
    assert cfg.train_cfg.stages == [dict(kind='recast', blocks='all', iters=1, parallel=True)]
    assert cfg.train_dataloader.dataset == dict(type='ImagesToTime', num_images=4, shape=(1, 8, 8), num_classes=10)
    assert cfg.val_dataloader is None and cfg.test_evaluator is None


def test_steps_of_evenly_spaced_blocks_in_turns(tool, cfg, monkeypatch):
    readings = [1.0] * 4  # warming up
    readings += [0, 0.5, 0, 0.25, 0, 0.5, 0, 1.5]  # teacher-fed first, then second: 2 and 3 times the other
    clock = iter(3 * readings)
    monkeypatch.setattr(tool, 'time', SimpleNamespace(perf_counter=lambda: next(clock)))
    costs = tool.step_costs(cfg, batch_size=4, rounds=2, count=3)
    assert [c['k'] for c in costs] == [1, 14, 27]
    assert [c['block'] for c in costs] == ['backbone.layer1.0', 'backbone.layer2.4', 'backbone.layer3.8']
    for cost in costs:
        assert (cost['teacher_fed'], cost['student_fed'], cost['ratio']) == (1000.0, 375.0, 2.5)


def test_the_largest_difference(tool):
    one = dict(a=torch.tensor([1.0, 2.0]), b=torch.tensor(3))
    assert tool.largest_difference(one, dict(one)) == 0
    assert tool.largest_difference(one, dict(a=torch.tensor([1.0, 1.5]), b=torch.tensor(3))) == 0.5


def test_runs_on_one_and_two_processes(call, tool, tmp_path):
    """On the digits' network, a step a block: the joined weights are the same."""
    out = tmp_path / 'blocks.json'
    small = ('--iters', 1, '--batch-size', 4, '--start-images', 4, '--blocks', 1, '--rounds', 1)
    status, printed, error = call('--config', DIGITS, *small, '--out', out)
    assert status == 0, error
    content = json.loads(out.read_text())
    assert [r['processes'] for r in content['apart']] == [1, 2]
    assert [r['difference'] for r in content['apart']] == [0, 0]
    assert all(r['seconds'] > 0 for r in content['apart']) and content['apart'][0]['speedup'] == 1
    assert content['config'] == DIGITS.name and 'parallel_blocks.py --config' in content['command']
    assert re.search(r'^ *2 .* 0.0e\+00$', printed, re.M)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--processes', '0'], 'processes must be at least 1, got 0'),
        (['--iters', '0'], 'iters must be at least 1, got 0'),
        (['--out', 'no/such/folder/cost.json'], 'is no file in a folder that is there'),
        (['--config', 'no.py'], 'no.py'),
    ],
)
def test_mistakes_are_told_in_one_line(call, arguments, message):
    status, _, error = call(*arguments)
    assert status == 2 and re.match(f'error: .*{message}', error.splitlines()[-1])
