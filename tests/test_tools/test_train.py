"""tools/train.py, test.py and export_student.py, run as they are on the tiny problem."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import SHAPE, config, differing, recasting, run, weights, without_seconds, write

from mmrecast.apis import load_student
from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

ROOT = Path(__file__).resolve().parents[2]
STAGES = [dict(kind='recast', blocks='all', epochs=1), dict(kind='finetune', epochs=2)]


def command(*arguments, **environment) -> subprocess.CompletedProcess:
    """Run a command of the repository in a process of its own, with one thread."""
    environment = dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT / 'tests'), CUDA_VISIBLE_DEVICES='') | environment
    return subprocess.run(
        [str(a) for a in arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def tool(monkeypatch, name: str, *arguments) -> None:
    """Run tools/NAME.py in this process."""
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *(str(a) for a in arguments)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')


@pytest.fixture(scope='module')
def whole(tmp_path_factory, trained_teacher, quick):
    """Config, its file, result and work dir of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp('whole')
    cfg = config(recasting(teacher_ckpt=trained_teacher), STAGES, checkpoint=dict(max_keep_ckpts=9))
    return cfg, write(cfg, folder / 'tiny_config.py'), run(cfg, folder / 'run'), folder / 'run'


def test_killed_and_resumed(whole, tmp_path):
    """SIGKILL in the middle of the second epoch of fine-tuning, then ``--resume``: the same bits in the end."""
    cfg, path, result, run_dir = whole
    train = (sys.executable, 'tools/train.py', '--work-dir', tmp_path)
    killed = command(*train, write(cfg, tmp_path / 'killed.py', dict(kind='iter', n=14)))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    last = load_file((tmp_path / 'last_checkpoint').read_text())
    assert (last['staged']['stage'], last['staged']['iter']) == (3, 12) and not (tmp_path / 'student.pth').exists()
    resumed = command(*train, path, '--resume')
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differing(weights(tmp_path), weights(run_dir)) == []
    again = json.loads((tmp_path / 'result.json').read_text())
    assert without_seconds(again) == without_seconds(result)
    assert (again['top1'], again['teacher'], again['images']) == (result['top1'], result['teacher'], result['images'])


def test_options_of_the_command_line(whole, tmp_path, monkeypatch):
    tool(monkeypatch, 'train', whole[1], '--work-dir', tmp_path, '--cfg-options', 'randomness.seed=3',
         'train_cfg.stages.0.epochs=2', 'train_cfg.stages.1.epochs=1')  # fmt: skip
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['seed'] == 3 and [s['iters'] for s in result['stages']] == [6, 6, 6, 3]
    assert result['config'] == str(whole[1])


def test_resume_with_nothing_to_resume(whole, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        tool(monkeypatch, 'train', whole[1], '--work-dir', tmp_path / 'new', '--resume')
    assert end.value.code == 2 and not (tmp_path / 'new').exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: nothing to resume in') and line.endswith('leave --resume out to start')


def test_test_gives_what_the_run_recorded(whole, tmp_path, monkeypatch, capsys):
    """On student.pth, on the last checkpoint and on one of a middle stage."""
    _, path, result, run_dir = whole
    for checkpoint, top1 in (
        (run_dir / 'student.pth', result['top1']),
        ((run_dir / 'last_checkpoint').read_text(), result['top1']),
        (run_dir / 'stage002_iter00000006.pth', result['stages'][1]['top1']),
    ):
        tool(monkeypatch, 'test', path, checkpoint, '--work-dir', tmp_path)
        assert f"'accuracy/top1': {top1}" in capsys.readouterr().out


def test_export_of_a_middle_stage(whole, tmp_path, monkeypatch, capsys):
    """Two blocks recast, the third the teacher's; it needs neither config nor data to be loaded."""
    _, path, _, run_dir = whole
    checkpoint = run_dir / 'stage002_iter00000006.pth'
    tool(monkeypatch, 'export_student', path, checkpoint, tmp_path / 'middle.pth')
    assert '2 of 4 stages done' in capsys.readouterr().out
    student = load_student(tmp_path / 'middle.pth')
    blocks = [type(student.get_submodule(f'backbone.layer{n}.0')).__name__ for n in (1, 2, 3)]
    assert blocks == ['ConvBlock', 'ConvBlock', 'BasicBlock']
    stored = load_file(checkpoint)['state_dict']
    assert differing(student.state_dict(), {k.removeprefix('student.'): v for k, v in stored.items()}) == []
    assert student(torch.zeros(2, *SHAPE)).shape == (2, 10)
