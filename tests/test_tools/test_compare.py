"""tools/compare.py on work directories as runs leave them, and on those of real runs of the tiny problem."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import finished
import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'compare.py'
FILES = ['comparison.csv', 'comparison.json', 'comparison.md', 'index.html']

pytest.importorskip('matplotlib')


@pytest.fixture
def compare(tmp_path, capsys):
    """Return a function that runs the tool in this process: (exit status, output, error)."""
    spec = importlib.util.spec_from_file_location('compare', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments, out=tmp_path / 'report'):
        status = 0
        try:
            tool.main([*map(str, arguments), '--out', str(out)])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def runs(tmp_path):
    """A folder of six runs: two students, two seeds of one of them, and the teacher's own."""
    folder = tmp_path / 'runs'
    for name, recipe, fields in (
        ('recasting0', finished.CONV, {}),
        ('recasting1', finished.CONV, dict(seed=1, top1=87.0)),
        ('kd', finished.CONV, dict(method='kd', top1=84.0)),
        ('basic', finished.BASIC, dict(top1=89.0)),
        ('backprop', finished.BASIC, dict(method='backprop', top1=80.0, teacher=None)),
        ('teacher', None, dict(method='backprop', top1=90.0, teacher=None, seconds=99.0, config='teacher.py')),
    ):
        finished.leave(folder / name, recipe, **fields)
    return folder


def test_a_folder_of_runs_as_a_command(runs, tmp_path):
    command = [sys.executable, str(TOOL), 'runs', '--batch-sizes', '1', '2', '--repeats', '3', '--threads', '1']
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | dict(OMP_NUM_THREADS='1')
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(
        '6 runs of 2 different students\nlatency of 3 networks in turns, batch of 1, 1×8×8, 3 ro'
    )
    assert 'written: report/comparison.md, report/comparison.csv, ' in done.stdout
    assert sorted(p.name for p in (tmp_path / 'report').iterdir()) == FILES

    data = json.loads((tmp_path / 'report' / 'comparison.json').read_text())
    lines = {line['line']: line for line in data['lines']}
    assert list(lines) == [
        'teacher', 'backprop (6 × BasicBlock)', 'recasting (6 × BasicBlock)', 'kd (6 × ConvBlock)',
        'recasting (6 × ConvBlock)',
    ]  # fmt: skip
    assert (data['title'], data['teacher']) == ('CIFAR10: students of ResNet-14', 'ResNet-14')
    assert lines['recasting (6 × ConvBlock)']['error'] == dict(mean=12.5, sd=pytest.approx(0.5**0.5), n=2)
    assert lines['teacher']['seconds']['mean'] == 99.0
    # by hand: the stem, then two convolutions of each width
    assert lines['kd (6 × ConvBlock)']['params'] == 9 * (1 * 4 + 2 * 4 * 4 + 4 * 6 + 6 * 6 + 6 * 8 + 8 * 8)
    assert lines['kd (6 × ConvBlock)']['latency'] == lines['recasting (6 × ConvBlock)']['latency']
    assert all(set(line['latency']) == {'1', '2'} for line in lines.values())
    assert [len(plan['blocks']) for plan in data['plans']] == [8, 8]  # six blocks, the rest, the total
    with open(tmp_path / 'report' / 'comparison.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [float(row['batch1_speed_up']) for row in rows] == [
        line['latency']['1']['speed_up'] for line in lines.values()
    ]

    page = (tmp_path / 'report' / 'index.html').read_text()
    assert page.count('<svg') == 4 and not re.search(r'(src|href)="(?!#)|https?:', page)
    shown = '--batch-sizes 1 2 --repeats 3 --threads 1'
    assert shown in page and shown in (tmp_path / 'report' / 'comparison.md').read_text()


def test_real_runs_of_the_tiny_problem(compare, quick, trained_teacher, tmp_path):
    stages = [dict(kind='recast', blocks='all', iters=1), dict(kind='finetune', iters=1)]
    tiny.run(tiny.config(tiny.recasting(teacher_ckpt=trained_teacher), stages), tmp_path / 'runs' / 'recasting')
    status, said, _ = compare(tmp_path / 'runs', '--no-latency', '--title', 'Mine')
    data = json.loads((tmp_path / 'report' / 'comparison.json').read_text())
    result = json.loads((tmp_path / 'runs' / 'recasting' / 'result.json').read_text())
    teacher, student = data['lines']
    assert status == 0 and data['title'] == 'Mine' and 'latency' not in said
    assert student['error']['mean'] == 100 - result['top1']
    assert teacher['error']['mean'] == 100 - result['teacher']['top1']
    assert student['latency'] == {} and student['params'] < teacher['params']
    assert '<h3>Stage by stage</h3>' in (tmp_path / 'report' / 'index.html').read_text()


def test_a_missing_student_is_a_dash_and_a_note(compare, tmp_path):
    one = finished.leave(tmp_path / 'one', student=False)
    status, said, _ = compare(one, '--no-latency')
    assert status == 0 and re.search(r'recasting +12.00 +\+2.00 +– ', said)
    assert re.search(
        r'^recasting: params, mults, acts and latency are not known: no checkpoint at .*student.pth\.$', said, re.M
    )
    assert 'no checkpoint at' in (tmp_path / 'report' / 'comparison.md').read_text()


def test_blocks_of_ones_own_are_imported(compare, tmp_path, monkeypatch):
    (tmp_path / 'blocks_of_mine.py').write_text(
        'from mmrecast.blocks import ConvBlock\n'
        'from mmrecast.registry import BLOCKS\n\n\n'
        '@BLOCKS.register_module()\n'
        'class MyBlock(ConvBlock):\n'
        '    """A block."""\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code = (
        'import blocks_of_mine, finished\n'
        f"finished.leave({str(tmp_path / 'mine')!r}, [dict(source='backbone.layer*.*', target='MyBlock')])"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT / 'tests')])
    subprocess.run([sys.executable, '-c', code], check=True, env=os.environ | dict(PYTHONPATH=paths), cwd=ROOT)
    _, without, _ = compare(tmp_path / 'mine', '--no-latency')
    assert "names a block 'MyBlock' that is not registered" in without
    status, said, _ = compare(tmp_path / 'mine', '--no-latency', '--import', 'blocks_of_mine')
    assert status == 0 and 'not known' not in said


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{runs}/none'], 'no result at {runs}/none; it is written when a run ends'),
        (
            ['{runs}/kd', '{other}'],
            'results on different data sets do not belong in one table: {runs}/kd/result.json has',
        ),
        (['{runs}', '{runs}/kd'], '{runs}/kd/result.json is given twice: name each work directory once'),
        (['{runs}/kd', '--device', 'cuda:99'], "device 'cuda:99' was asked for, but PyTorch sees "),
        (['{runs}/kd', '--batch-sizes', '0'], 'batch_size must be at least 1, got 0'),
        (['{runs}/kd', '--repeats', '0'], 'repeats must be at least 1, got 0'),
        (['{runs}/kd', '--import', 'no_such_module'], '--import: Failed to import no_such_module; a module of yours'),
    ],
)
def test_mistakes_are_told_in_one_line(compare, runs, tmp_path, arguments, message):
    other = finished.leave(tmp_path / 'other', dataset='Digits')
    given = [a.format(runs=runs, other=other) for a in arguments]
    status, _, error = compare(*given)
    assert (status, error.count('\n')) == (2, 1) and error.startswith('error: ' + message.format(runs=runs))
    assert not (tmp_path / 'report').exists()


def test_a_file_where_the_folder_should_be(compare, runs, tmp_path):
    (tmp_path / 'page.html').write_text('mine')
    status, said, error = compare(runs, out=tmp_path / 'page.html')
    assert (status, said) == (2, '') and 'page.html is a file: choose another --out' in error
    assert (tmp_path / 'page.html').read_text() == 'mine'
