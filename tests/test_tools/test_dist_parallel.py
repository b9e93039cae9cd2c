"""Blocks that train apart on two gloo processes, on one, and on one after two were killed: the same bits."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import config, differing, recasting, run, without_seconds, write

from mmrecast.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures('quick')

ROOT = Path(__file__).resolve().parents[2]
MODEL = recasting(start=dict(type='closed_form', images=40), block_input='teacher')
STAGES = [dict(kind='recast', blocks='all', iters=4, parallel=True), dict(kind='finetune', epochs=1)]
KEPT = dict(max_keep_ckpts=9)
CFG = config(MODEL, STAGES, checkpoint=KEPT)
JOINED = 'stage003_iter00000012.pth'


def two_processes(path: Path, work_dir: Path, *arguments: str) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = dict(
        PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1', PYTHONPATH=f'{ROOT}:{ROOT / "tests"}',
        CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    command = ['bash', 'tools/dist_train.sh', str(path), '2', '--work-dir', str(work_dir), *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)


def joined(work_dir: Path) -> dict:
    """Return the student as it was when all of its blocks had been joined."""
    return read_checkpoint(str(work_dir / JOINED))['state_dict']


@pytest.fixture(scope='module')
def one(tmp_path_factory, quick):
    """Result and work dir of one process."""
    folder = tmp_path_factory.mktemp('one')
    return run(CFG, folder), folder


@pytest.fixture(scope='module')
def two(tmp_path_factory, quick):
    """Result and work dir of two processes."""
    folder = tmp_path_factory.mktemp('two')
    done = two_processes(write(CFG, folder / 'two.py'), folder / 'run')
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / 'run' / 'result.json').read_text()), folder / 'run'


def test_as_one_process(one, two):
    """Blocks and their records are the same; fine-tuning goes on with both processes."""
    assert differing(joined(one[1]), joined(two[1])) == []
    assert without_seconds(two[0])[:3] == without_seconds(one[0])[:3]
    assert (two[0]['machine']['processes'], one[0]['machine']['processes']) == (2, 1)
    assert [s['iters'] for s in two[0]['stages']] == [4, 4, 4, 2] and one[0]['stages'][3]['iters'] == 3
    assert two[0]['images'] == 3 * 4 * 32 + 96 and two[0]['complete']


def test_a_killed_process_ends_the_run_and_one_alone_picks_its_blocks_up(one, tmp_path):
    """Of two processes the one that trains two blocks is killed in the second; one process goes on for both."""
    killed = two_processes(write(CFG, tmp_path / 'two.py', dict(kind='iter', n=2)), tmp_path / 'run')
    assert killed.returncode != 0 and 'SIGKILL' in killed.stderr
    blocks = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'run/blocks').glob('*.pth')}
    assert 0 < len(blocks) < 3
    result = run(CFG, tmp_path / 'run', resume=True)
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'run/blocks').glob('*.pth')}
    assert len(again) == 3 and again | blocks == again
    assert differing(joined(tmp_path / 'run'), joined(one[1])) == []
    assert without_seconds(result) == without_seconds(one[0])


def test_one_process_goes_on_from_the_join_of_two(one, two, tmp_path):
    """Up to there nothing depends on the number; behind it, it does."""
    _, folder = two
    result = run(CFG, tmp_path / 'on', resume=str(folder / JOINED))
    assert without_seconds(result) == without_seconds(one[0])
    with pytest.raises(ValueError, match='stage004_iter00000014.pth was written by 2 processes, this run has 1'):
        run(CFG, tmp_path / 'end', resume=str(folder / 'stage004_iter00000014.pth'))
    with pytest.raises(ValueError, match='written with another parallel'):
        other = [STAGES[0], dict(STAGES[1], epochs=2)]
        run(config(MODEL, other, checkpoint=KEPT), tmp_path / 'other', resume=str(folder / JOINED))
