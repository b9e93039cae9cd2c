"""What another budget takes from a filled cache, on a small network: calls are made in this process."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import config, recasting, write

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'plan_again.py'
STAGES = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=1)]


@pytest.fixture
def calls(call, loaded, tool, tmp_path, trained_teacher, quick, monkeypatch):
    """Run the tool: (exit status, output, error), and the command lines that it called."""
    made = []
    file = write(config(recasting(start='closed_form'), STAGES), tmp_path / 'given.py')
    import mmrecast.planning.from_config as from_config

    planned, budgets = from_config.Planner.plan, {1.1: 1600, 1.2: 1500, 1.3: 1200}
    monkeypatch.setattr(
        from_config.Planner, 'plan', lambda self, speedup, *_: planned(self, max_params=budgets[speedup])
    )
    monkeypatch.setattr(from_config.Runner, 'build_dataloader', _without_root(from_config.Runner.build_dataloader))

    def run(words, _real=subprocess.run, **options):
        if words[0] != sys.executable:  # git, for the commit
            return _real(words, **options)
        made.append(words)
        monkeypatch.setattr(sys, 'argv', words[1:])
        try:
            runpy.run_path(words[1], run_name='__main__')
        except SystemExit as end:
            return subprocess.CompletedProcess(words, end.code, '', 'first\nwhat went wrong')
        return subprocess.CompletedProcess(words, 0, '', '')

    monkeypatch.setattr(tool.subprocess, 'run', run)
    fixed = ['--config', file, '--data-root', tmp_path, '--teacher', trained_teacher, '--cache', tmp_path / 'prices']
    return lambda *args: (*call(*fixed, '--images', 32, '--ratios', 1, 0.5, *args), made)


def _without_root(build):
    def run(cfg, **options):
        cfg.dataset.pop('data_root')  # the data of the small config lie nowhere
        return build(cfg, **options)

    return run


def test_the_first_call_fills_the_cache_and_is_not_counted(calls, tmp_path):
    out = tmp_path / 'again.json'
    status, said, error, made = calls('--speedups', 1.1, 1.2, 1.3, '--out', out)
    assert status == 0, error
    asked = [words[words.index('--target-speedup') + 1 : words.index('--out')] for words in made]
    assert asked == [['1.1'], ['1.1'], ['1.2'], ['1.3'], ['1.1', '1.2', '1.3']]
    content = json.loads(out.read_text())
    assert [one['asked'] for one in content['calls']] == [1.1, 1.2, 1.3] and len(content['further_budget']) == 2
    assert all(0 < one['after_imports'] < one['seconds'] for one in content['calls'])
    assert content['first_call'] > 0 and 'further budgets of one call' in said


def test_a_call_that_fails_is_told(calls):
    status, _, error, _ = calls('--speedups', 1.1, '--ratios', 2)
    assert status == 2 and 'tools/plan.py ended with 2: what went wrong' in error


def test_refused(calls):
    status, _, error, made = calls('--jobs', 0)
    assert status == 2 and 'jobs must be' in error and not made
