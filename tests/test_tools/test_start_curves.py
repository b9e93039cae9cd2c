"""Accuracy after a start alone and after some steps, on a small network: which rows there are, and what is kept."""

import json
import re
from pathlib import Path

import pytest
from tiny import config, recasting, write

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'start_curves.py'


@pytest.fixture
def run(call, tool, tmp_path, monkeypatch, quick, trained_teacher):
    """Run the tool on one small network: as its config has it, and with narrower convolutions."""
    write(config(recasting(), [dict(kind='recast', blocks='all', iters=1)]), tmp_path / 'small.py')
    narrow = [dict(source='backbone.layer*.*', target=dict(type='ConvBlock', width_ratio=0.5))]
    monkeypatch.setattr(tool, 'CONFIGS', tmp_path)
    monkeypatch.setattr(tool, 'TRANSFORMATIONS', dict(whole=('small', 'small', None), half=('small', 'small', narrow)))
    monkeypatch.setattr(tool, 'ready_runner', lambda cfg, data_root, _f=tool.ready_runner, **kw: _f(cfg, **kw))
    given = ['--teacher', f'small={trained_teacher}', '--images', '64', '--test-images', '60']
    return lambda *args: call(*given, '--out', tmp_path / 'curves.json', *args)


def rows(tmp_path) -> list[dict]:
    return json.loads((tmp_path / 'curves.json').read_text())['rows']


def test_a_closed_form_alone_and_both_starts_with_steps(run, tmp_path):
    status, said, err = run('--steps', '2', '0')
    assert status == 0, err
    found = rows(tmp_path)
    assert [(r['transformation'], r['start'], r['steps']) for r in found] == [
        ('whole', 'closed_form', 0), ('half', 'closed_form', 0),
        ('whole', 'closed_form', 2), ('whole', 'xavier', 2), ('half', 'closed_form', 2), ('half', 'xavier', 2),
    ]  # fmt: skip
    solved, drawn = found[2], found[3]
    assert solved['relative_error'] < 1 and solved['top1'] > drawn['top1']  # two steps from a random start are nothing
    assert len(solved['block_errors']) == solved['blocks'] == 3 and drawn['block_errors'] == {}
    assert all(r['test_images'] == 60 and r['teacher_top1'] == found[0]['teacher_top1'] for r in found)
    assert [line.split()[:2] for line in said.splitlines() if 'closed_form' in line or 'xavier' in line] == [
        ['whole', 'closed_form'], ['half', 'closed_form'], ['whole', 'xavier'], ['half', 'xavier']
    ]  # fmt: skip


def test_rows_that_are_there_are_kept_and_long_ones_left_out(run, tmp_path, tool, monkeypatch):
    assert run('--only', 'half', '--steps', '0')[0] == 0
    before = rows(tmp_path)
    monkeypatch.setattr(tool, 'FEW_BLOCKS', 2)
    status, _, err = run('--steps', '0', '11')
    assert status == 0 and 'half, closed_form, 0 steps' not in err
    assert [(r['transformation'], r['steps']) for r in rows(tmp_path)] == [('half', 0), ('whole', 0)]
    assert rows(tmp_path)[0] == before[0]
    assert run('--only', 'whole', '--steps', '11', '--long')[0] == 0
    assert [r['steps'] for r in rows(tmp_path)] == [0, 0, 11, 11]


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--teacher', 'smal=x.pth'], "takes NAME=FILE, got 'smal=x.pth'.*small"),
        (['--teacher', 'small=nowhere.pth'], '--teacher small: there is no file nowhere.pth'),
        (['--steps', '-1'], '--steps must be whole numbers of at least 0, got -1'),
        (['--out', 'nowhere/curves.json'], 'is no file in a folder that is there'),
        (['--images', '0'], 'images of the start must be a whole number of at least 1, got 0'),
    ],
)
def test_refused(run, args, message):
    status, _, err = run(*args)
    assert status == 2
    assert re.search(message, err), err
