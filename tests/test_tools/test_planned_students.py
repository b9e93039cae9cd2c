"""Planned students against uniform ones, on a small network: who takes part, by which config, for how many images."""

import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny import config, recasting, write

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'planned_students.py'
STAGES = [dict(kind='recast', blocks='all', iters=60), dict(kind='finetune', epochs=29)]


@pytest.fixture
def run(monkeypatch, request, tmp_path, quick, trained_teacher):
    """Run the tool; a network's latency is its multiplications, and a budget of 2 one of 1200 weights."""
    monkeypatch.syspath_prepend(TOOL.parent)
    tool, call = request.getfixturevalue('tool'), request.getfixturevalue('call')
    file = write(
        config(recasting(start='closed_form', hints=dict(blocks='backbone.layer3.0')), STAGES), tmp_path / 'base.py'
    )
    plan, kept = tool.Planner.plan, {}

    def planned(self, asked):
        kept['planner'] = self
        return plan(self, max_params={2.0: 1200, 1.5: 1500}[asked])

    def times(planner, recipes):
        def mults(network):
            return tool.count(network, planner.input_shape, tool.convention_for(planner.input_shape)).mults

        return [
            mults(planner.teacher) / mults(tool.student_by(planner.teacher, planner.chain, recipe))
            for recipe in recipes
        ]

    monkeypatch.setattr(tool.Planner, 'plan', planned)
    monkeypatch.setattr(tool, 'times', times)
    monkeypatch.setattr(tool, 'planner_for', lambda *a, _f=tool.planner_for, **o: _f(a[0], *a[1:3], None, **o))
    monkeypatch.setattr(tool, 'train', lambda cfg, data_root, _f=tool.train, **options: _f(cfg, **options))
    given = ['--config', file, '--data-root', tmp_path, '--teacher', trained_teacher, '--images', '16']
    given += ['--repeats', '2', '--iters', '3', '--work-dir', tmp_path / 'runs']
    return lambda *args: call(*given, *args)


def test_all_of_a_budget_are_trained_alike_and_what_is_done_is_kept(run, tmp_path):
    out, figure = tmp_path / 'students.json', tmp_path / 'students.svg'
    args = ['--speedups', '2', '1.5', '--train-images', '20', '--equal', '0.5', '--out', out, '--plot', figure]
    status, said, err = run(*args)
    assert status == 0, err
    runs = json.loads(out.read_text())['runs']
    kinds = {asked: [r['kind'] for r in runs if (r['asked'], r['seed']) == (asked, 0)] for asked in (2, 1.5)}
    assert all(own[:2] == ['planned', 'warm'] and set(own[2:]) <= {'first_n', 'narrowed'} for own in kinds.values())
    assert any(own[2:] for own in kinds.values())
    assert len(runs) == 2 * sum(map(len, kinds.values()))
    for r in runs:
        assert r['images'] == 3 * 32 and 0 < r['top1'] <= 100
        first = runs[[(x['asked'], x['kind']) for x in runs].index((r['asked'], 'planned'))]
        assert abs(r['speedup'] / first['speedup'] - 1) <= 0.5
    planned, warm = (Config.fromfile(tmp_path / 'runs' / f'{kind}_2.py').model for kind in ('planned', 'warm'))
    assert planned.recipe == warm.recipe and warm.trained_blocks and 'trained_blocks' not in planned
    kept = Config.fromfile(next((tmp_path / 'runs').glob('planned_2_seed0/*.py')))
    assert kept.model.get('hints') is None and kept.train_cfg.stages[-1].iters == 3
    assert 'narrowed' in figure.read_text() and said.count(' warm ') == 2
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'runs').glob('*/student.pth')}
    status, again, err = run(*args)
    assert (status, again) == (0, said) and 'trained alone' not in err
    assert before == {p: p.stat().st_mtime_ns for p in before} and len(before) == len(runs)
    status, _, err = run(*args, '--iters', '4')
    assert status == 2 and 'was trained on 96 images, not 128: give another --work-dir' in err


def test_uniform_recipes_by_hand(run, tmp_path):
    """Three blocks of 4, 6 and 8 channels; the last one keeps its width."""
    tool = sys.modules[TOOL.stem]
    status, said, err = run('--speedups', '2', '--plan-only', '--equal', '0')
    assert status == 0, err
    assert said.startswith('planned: planned, ') and len(said.splitlines()) <= 3
    kept = json.loads((tmp_path / 'runs/recipes_2.json').read_text())
    assert kept['recipes'][0]['params'] <= 1200 and kept['seconds'] > 0 and kept['settings']['images'] == 16
    status, _, err = run('--speedups', '2', '--plan-only', '--equal', '0.1', '--batch-size', '3')
    assert status == 2 and 'was made with another batch_size, equal: give another --work-dir' in err
    from mmrecast.planning.from_config import planner_for

    cfg = Config.fromfile(tmp_path / 'base.py')
    cfg.model.teacher_ckpt = None
    found = tool.families(planner_for(cfg, 16, targets=['ConvBlock'], ratios=[1.0], repeats=1, warmup=0))
    assert [len(recipe) for recipe in found['first_n'].values()] == [1, 2, 3]
    half = found['narrowed']['all, x0.5']
    assert [rule['target'].get('width_ratio') for rule in half] == [0.5, 0.5, None]


def test_refused(run):
    status, _, err = run('--iters', '0')
    assert status == 2 and 'iters must be' in err
