"""Two gloo processes on the CPU against one, and against themselves when they are killed and resumed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import SHAPE, config, differing, loader, preprocessor, recasting, run, weights, without_seconds, write

from mmrecast.utils.checkpoint import load_file

pytestmark = pytest.mark.usefixtures('quick')

ROOT = Path(__file__).resolve().parents[2]
SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
STAGES = [dict(kind='recast', blocks='all', epochs=1), dict(kind='finetune', epochs=2)]


def plain_config(batch: int):
    """Return a config without BatchNorm or dropout, on which the number of processes makes no difference."""
    model = recasting(dict(type='PlainNet'), recipe=[dict(source=['block1', 'block3'], target='PlainBlock')])
    return config(model, STAGES, optim_wrapper=SGD, train_dataloader=loader('train', 96, batch))


def two_processes(path: Path, work_dir: Path, *arguments: str) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = dict(
        PYTHON=sys.executable,
        PORT=str(port),
        OMP_NUM_THREADS='1',
        PYTHONPATH=str(ROOT / 'tests'),
        CUDA_VISIBLE_DEVICES='',
    )
    command = ['bash', 'tools/dist_train.sh', str(path), '2', '--work-dir', str(work_dir), *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def two(tmp_path_factory, quick):
    """Config file, result and work dir of a run by two processes with 16 images each."""
    folder = tmp_path_factory.mktemp('two')
    path = write(plain_config(16), folder / 'two.py')
    done = two_processes(path, folder / 'run')
    assert done.returncode == 0, done.stderr[-3000:]
    return path, json.loads((folder / 'run' / 'result.json').read_text()), folder / 'run'


def test_as_one_process(two, tmp_path):
    """The same total batch gives the same weights but for rounding, through recasting stages and fine-tuning."""
    _, result, run_dir = two
    alone = run(plain_config(32), tmp_path)
    ours, theirs = weights(run_dir), weights(tmp_path)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] - theirs[name]).norm() < 1e-5 * theirs[name].norm(), name
    assert result['machine']['processes'] == 2 and alone['machine']['processes'] == 1
    for one, other in zip(result['stages'], alone['stages'], strict=True):
        assert [one[k] for k in ('name', 'iters', 'images', 'top1', 'val_images')] == [
            other[k] for k in ('name', 'iters', 'images', 'top1', 'val_images')
        ]
        for key in ('relative_error_start', 'relative_error'):
            assert one[key] == pytest.approx(other[key], rel=1e-4)
    assert (result['top1'], result['images']) == (alone['top1'], alone['images'])


def test_with_checkpointing(two, tmp_path):
    """Blocks that compute again what they did leave gradients to be averaged as they were."""
    cfg = plain_config(16)
    cfg.model.checkpointing = True
    done = two_processes(write(cfg, tmp_path / 'again.py'), tmp_path / 'run')
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = weights(tmp_path / 'run'), weights(two[2])
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] - theirs[name]).norm() < 1e-5 * theirs[name].norm(), name


def linked_config(batch: int):
    """Return Factor Transfer in its two phases, without anything in which the number of processes matters."""
    links = [
        dict(teacher='block3', teacher_connector='coder', loss=dict(type='L1Loss'), stage='pretrain'),
        dict(student='block3', teacher='block3', connector=dict(type='Translator', use_bn=False),
             teacher_connector='coder', loss=dict(type='FTLoss', loss_weight=10.0)),
    ]  # fmt: skip
    model = dict(
        type='SingleTeacherDistill', teacher=dict(type='PlainNet', width=8), student=dict(type='PlainNet'), links=links,
        connectors=dict(coder=dict(type='Paraphraser')), data_preprocessor=preprocessor(crop_padding=1),
    )  # fmt: skip
    stages = [dict(kind='pretrain', epochs=1), dict(kind='train', epochs=2)]
    return config(model, stages, optim_wrapper=SGD, train_dataloader=loader('train', 96, batch))


def test_two_phases_as_one_process(tmp_path):
    path = write(linked_config(16), tmp_path / 'two.py')
    done = two_processes(path, tmp_path / 'two')
    assert done.returncode == 0, done.stderr[-3000:]
    run(linked_config(32), tmp_path / 'one')
    ours, theirs = weights(tmp_path / 'two'), weights(tmp_path / 'one')
    coders = [load_file(tmp_path / name / 'coder.pth')['weights'] for name in ('two', 'one')]
    for one, other in ((ours, theirs), coders):
        assert one.keys() == other.keys() and one
        for name in one:
            assert (one[name] - other[name]).norm() < 1e-4 * other[name].norm(), name


def searched_config(batch: int):
    """Return a search of widths and its training, of both of which every process draws the same noise."""
    model = dict(
        type='DifferentiableAdjoinedNetwork', network=dict(type='PlainNet', width=8), above=4, tau=1.0, gamma=1e-9,
        data_preprocessor=preprocessor(crop_padding=1),
    )  # fmt: skip
    stages = [dict(kind='search', epochs=1), dict(kind='train', epochs=1)]
    return config(model, stages, optim_wrapper=SGD, train_dataloader=loader('train', 96, batch))


def test_a_search_as_one_process(tmp_path):
    """Both paths, the choices, what they settle on and its training."""
    done = two_processes(write(searched_config(16), tmp_path / 'two.py'), tmp_path / 'two')
    assert done.returncode == 0, done.stderr[-3000:]
    run(searched_config(32), tmp_path / 'one')
    two, one = (load_file(tmp_path / name / 'stage002_iter00000006.pth') for name in ('two', 'one'))
    assert two['structure'] == one['structure'] and len(set(one['structure']['divisors'].values())) > 1
    ours, theirs = two['state_dict'], one['state_dict']
    assert ours.keys() == theirs.keys() and theirs['student.width_logits'].abs().max() > 0
    for name in ours:
        assert (ours[name] - theirs[name]).norm() <= 1e-4 * theirs[name].norm(), name


def test_killed_and_resumed(two, tmp_path):
    """Killed in the second epoch of fine-tuning and resumed, two processes end with the bits of two left alone."""
    path, result, run_dir = two
    killed = two_processes(write(plain_config(16), tmp_path / 'killed.py', dict(kind='iter', n=11)), tmp_path)
    assert killed.returncode != 0 and 'SIGKILL' in killed.stderr
    assert (tmp_path / 'last_checkpoint').read_text().endswith('stage002_iter00000009.pth')
    resumed = two_processes(path, tmp_path, '--resume')
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert differing(weights(tmp_path), weights(run_dir)) == []
    again = json.loads((tmp_path / 'result.json').read_text())
    assert without_seconds(again) == without_seconds(result)


def test_one_process_does_not_go_on_for_two(two, tmp_path):
    """The random states of two processes do not serve one; the message says so, not what follows from it."""
    _, _, run_dir = two
    with pytest.raises(ValueError, match='written by 2 processes, this run has 1'):
        run(plain_config(16), tmp_path, resume=(run_dir / 'last_checkpoint').read_text())
    assert torch.load(run_dir / 'student.pth', weights_only=True)['plan']['input_shape'] == list(SHAPE)
