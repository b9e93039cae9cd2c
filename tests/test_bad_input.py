"""A user's mistake ends in one clear line before the first batch, and leaves nothing written or changed."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mistakes import MISTAKES, OUT, STAGES
from mmengine.config import Config
from PIL import Image
from torch import nn

from mmrecast.apis import ready_runner
from mmrecast.datasets import CIFAR10, TensorDataset
from mmrecast.engine import StagedRunner
from mmrecast.models import build_network
from mmrecast.registry import DATASETS, MODELS
from mmrecast.utils.config_file import read_config
from mmrecast.utils.mistakes import explain


@DATASETS.register_module()
class ElevenLabels(TensorDataset):
    """Ten classes and a label too many."""

    def __init__(self) -> None:
        super().__init__(np.zeros((11, 1, 8, 8), np.uint8), np.arange(11), list('abcdefghij'))


@DATASETS.register_module()
class LabelsFrom1(TensorDataset):
    """Labels 1 to 10, by a data set that does not tell its classes."""

    def __init__(self) -> None:
        super().__init__(np.zeros((10, 1, 8, 8), np.uint8), np.arange(1, 11), list('abcdefghijk'))
        self.metainfo = {}


@DATASETS.register_module(name='NoIndicesForTests')
class NoIndices(torch.utils.data.Dataset):
    """Images and labels without a number for each."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, i: int) -> dict:
        return dict(inputs=torch.zeros(1, 8, 8), gt_label=torch.tensor(i % 10))


@MODELS.register_module(name='TwiceForTests')
class Twice(nn.Module):
    """Calls one of its modules twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.fc = nn.Identity(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.twice(self.twice(x.flatten(1))))


class Touch:
    """Pickled, a call of the shell."""

    def __reduce__(self):
        return os.system, ('touch /nowhere/mmrecast',)


def valid() -> Config:
    """Return a config that is in order."""
    return tiny.config(tiny.recasting(teacher_ckpt='{files}/teacher.pth', block_loss=dict(type='MSELoss')), STAGES)


def filled(value: object, files: Path) -> object:
    """Return ``value`` with the folder of files in place of ``{files}``."""
    if isinstance(value, dict):
        return {key: filled(item, files) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, files) for item in value]
    return value.replace('{files}', str(files)) if isinstance(value, str) else value


def changed(changes: dict, files: Path) -> tuple[Config, dict]:
    """Return a config and the arguments of ``ready_runner`` for a row of the table."""
    cfg = valid()
    if 'model.teacher' in changes:
        cfg.model.teacher_ckpt = None
    for key, value in changes.items():
        *above, last = key.split('.')
        holder = cfg
        for part in above:
            holder = holder[part]
        if value is OUT:
            holder.pop(last)
        elif not key.startswith('@'):
            holder[last] = value
    arguments = {key[1:]: filled(value, files) for key, value in changes.items() if key.startswith('@')}
    return Config(filled(cfg.to_dict(), files)), arguments


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file under a folder with its bytes, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob('*')}


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> Path:
    """A folder of sound and broken files, and of a finished run."""
    return fill(tmp_path_factory.mktemp('files'))


def fill(folder: Path) -> Path:
    """Fill a folder with sound and broken files, and a finished run."""
    torch.manual_seed(0)
    widths = dict(teacher={}, other={}, deeper=dict(depth=14), wider=dict(widths=(4, 8, 16)))
    for name, arguments in widths.items():
        torch.save(build_network(tiny.classifier(**arguments)).state_dict(), folder / f'{name}.pth')
    (folder / 'empty.pth').touch()
    (folder / 'cut.pth').write_bytes((folder / 'teacher.pth').read_bytes()[:3000])
    (folder / 'page.pth').write_text('\n<!DOCTYPE html>\n<html><body>Not found</body></html>\n')
    (folder / 'code.pth').write_bytes(pickle.dumps(dict(state_dict=Touch())))
    for root, names in dict(nine=CIFAR10.classes[:-1], torn=CIFAR10.classes).items():
        for name in names:
            (folder / root / 'train' / name).mkdir(parents=True)
            Image.new('RGB', (32, 32)).save(folder / root / 'train' / name / '0.png')
    (folder / 'torn/train/cat/0.png').write_text('no image')
    (folder / 'half/cifar-10-batches-py').mkdir(parents=True)
    (folder / 'half/cifar-10-batches-py/data_batch_1').touch()
    (folder / 'void').mkdir()
    cfg, _ = changed({}, folder)
    cfg.dump(folder / 'config.py')
    tiny.run(read_config(folder / 'config.py'), folder / 'run')
    shutil.copy(sorted((folder / 'run').glob('stage*.pth'))[-1], folder / 'run.pth')
    shutil.copy(folder / 'run/student.pth', folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path) -> None:
    """Do not ask for compilers, keep decoded images apart, and have no variables of a launcher."""
    monkeypatch.setattr(StagedRunner, '_log_env', lambda *args: None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('changes', 'kind', 'said'), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(files, tmp_path, monkeypatch, changes, kind, said):
    cfg, arguments = changed(changes, files)
    if 'amp' in arguments:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    before = torch.get_rng_state()
    with pytest.raises(kind or (ValueError, FileNotFoundError)) as caught:
        ready_runner(cfg, **dict(work_dir=str(tmp_path / 'work')) | arguments)
    line = explain(caught.value)
    assert re.search(said, line), line
    assert len(line) < 400 and '\n' not in line
    assert caught.type is not KeyError or caught.value.args == (line,)
    assert not (tmp_path / 'work').exists()
    torch.set_rng_state(before)


COMMANDS = {
    'unknown option': (['--cfg-options', 'model.recipee=3'], "Recasting takes no argument 'recipee' (nearest: recipe)"),
    'changed schedule': (['--resume', '--cfg-options', 'train_cfg.stages.0.iters=3'],
     'with another schedule; start afresh'),
    'no torchrun': (['--launcher', 'pytorch'],
     "launcher 'pytorch' needs RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in"),
}  # fmt: skip


def test_the_command_line_leaves_a_finished_run_as_it_is(files, repo_root):
    before = contents(files)
    command = [sys.executable, str(repo_root / 'tools/train.py'), 'config.py', '--work-dir', 'run']
    env = dict(os.environ, OMP_NUM_THREADS='1')
    for name, (arguments, said) in COMMANDS.items():  # one after another: a work dir takes one run at a time
        done = subprocess.run([*command, *arguments], cwd=files, env=env, capture_output=True, text=True, timeout=300)
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last[:7]) == (2, 'error: '), (name, done.stderr)
        assert said in last
        assert 'Traceback' not in done.stderr
    assert contents(files) == before


def test_the_table_starts_from_a_config_that_is_in_order(files, tmp_path):
    cfg, _ = changed({}, files)
    assert (
        ready_runner(cfg, work_dir=str(tmp_path)).train_loop.position
        == 'stage 1/4 recast backbone.layer1.0, iteration 0/2'
    )
