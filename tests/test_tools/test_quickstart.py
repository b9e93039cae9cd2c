"""The quickstart: interrupted, continued, called again, and called with other settings."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmrecast.apis import load_student


@pytest.fixture
def quickstart(repo_root):
    spec = importlib.util.spec_from_file_location('quickstart', repo_root / 'tools' / 'quickstart.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_interrupted_and_called_again(quickstart, tmp_path, capsys, monkeypatch):
    def run(*arguments):
        quickstart.main(['--out', str(tmp_path / 'out'), '--scale', '0.001', *arguments])

    def interrupt(self, runner, record):
        if record['index'] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match='130'):
        patched.setattr(quickstart.Progress, 'after_stage', interrupt)
        run()
    assert capsys.readouterr().out.endswith('interrupted; the same command goes on from here\n')

    run()
    said = capsys.readouterr().out
    assert 'teacher: already trained' in said
    assert 'recasting: going on from stage 3/28 recast backbone.layer1.2' in said
    assert '28/28 finetune' in said and 'mmengine - INFO' not in said
    table = [line.split() for line in said.splitlines() if re.match(r' (teacher|recasting|kd_mse|backprop) ', line)]
    assert [line[0] for line in table] == ['teacher', 'recasting', 'kd_mse', 'backprop']
    assert 'ResNet-56 became a plain network with 27 convolutions' in said

    # 28 iterations of 128 and 27 starts of 64 images; the others' last iteration fills up to a multiple of 128
    numbers = json.loads((tmp_path / 'out' / 'comparison.json').read_text())
    images = {name: student['images'] for name, student in numbers['students'].items()}
    assert images == dict(recasting=28 * 128 + 27 * 64, kd_mse=5376, backprop=5376) and 5376 // 128 == 42
    assert numbers['counts']['student']['params'] == 412_848 - 2 * 9 * 16  # a stem of one channel in place of three
    assert set(numbers['latency']) == {'batch 1', 'batch 64'}

    page = (tmp_path / 'out' / 'report.html').read_text()
    assert page.count('<svg') == 3 and not re.search(r'(src|href)="(?!#)', page)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    student = load_student(tmp_path / 'out' / 'student.pth')
    assert torch.equal(student(x), load_student(tmp_path / 'out' / 'recasting' / 'student.pth')(x))

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').glob('*/student.pth')}
    run()
    assert capsys.readouterr().out.count('already trained') == 4
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').glob('*/student.pth')}

    def stop(self, runner):
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart.Progress, 'before_train', stop)
    with pytest.raises(SystemExit, match='130'):
        run('--seed', '1')
    assert 'was made with other settings ("seed": 1), starting anew' in capsys.readouterr().out


def test_equal_budgets_of_the_configs(quickstart):
    """At full length the siblings' iterations are those that the quickstart works out, to a batch.

    (Of the data behind ``cifar10`` an epoch ends with a smaller batch, which the configs take into account.)
    """
    for data, blocks in (('digits', 27), ('cifar10', 9)):
        configs = {name: Config.fromfile(quickstart.CONFIGS / path) for name, path in quickstart.SETUPS[data].items()}
        block, finetune = (stage['iters'] for stage in configs['recasting'].train_cfg.stages)
        images = (blocks * block + finetune) * 128 + blocks * configs['recasting'].model.start.images
        for name in ('kd_mse', 'backprop'):
            assert 0 <= configs[name].train_cfg.stages[0].iters * 128 - images <= 128 * (data == 'cifar10')
            assert configs[name].train_dataloader.batch_size == 128


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['--data-root', 'nowhere'], r'error: .*nowhere'),
        (['--scale', '0'], 'error: --scale must be above 0 and at most 100, got 0.0'),
    ],
)
def test_mistakes_are_told_in_one_line(quickstart, tmp_path, capsys, arguments, line):
    with pytest.raises(SystemExit, match='2'):
        quickstart.main(['--out', str(tmp_path / 'out'), *arguments])
    assert re.search(line, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / 'out').exists()


def test_two_at_once_in_one_folder(quickstart, tmp_path, capsys):
    """The second is refused before it could start anew, with other settings, what the first is training."""
    code = 'import sys, time; from mmrecast.utils.work_dir_lock import *; lock = lock_work_dir(sys.argv[1]); print()'
    words = [sys.executable, '-c', f'{code}; sys.stdout.flush(); time.sleep(600)', str(tmp_path)]
    (tmp_path / 'teacher').mkdir()
    (tmp_path / 'teacher' / 'quickstart_settings.txt').write_text('other settings')
    with subprocess.Popen(words, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline()
        with pytest.raises(SystemExit, match='2'):
            quickstart.main(['--out', str(tmp_path), '--scale', '0.001'])
        first.kill()
    assert f'{tmp_path} is in use: process {first.pid} on' in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'teacher' / 'quickstart_settings.txt').read_text() == 'other settings'


def test_a_folder_of_other_files_is_left_alone(quickstart, tmp_path, capsys):
    (tmp_path / 'teacher').mkdir()
    (tmp_path / 'teacher' / 'thesis.tex').write_text('years of work')
    with pytest.raises(SystemExit, match='2'):
        quickstart.main(['--out', str(tmp_path), '--scale', '0.001'])
    assert 'holds files that no quickstart has written: choose another --out' in capsys.readouterr().err
    assert (tmp_path / 'teacher' / 'thesis.tex').read_text() == 'years of work'
