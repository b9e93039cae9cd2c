"""Everywhere a stranger's file is read, and what a refusal must look like."""

import copy
import functools
import io
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

import tiny
import torch
from mmengine.config import Config
from torture.attack import ROOT

import mmrecast
from mmrecast.algorithms.start import start_network
from mmrecast.apis import load_student, ready_runner
from mmrecast.engine.block_parallel import read_block
from mmrecast.models import build_network, load_weights
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.cli import MISTAKES
from mmrecast.utils.mistakes import explain

PACKAGE = Path(mmrecast.__file__).resolve().parent
TOLD = (ValueError, TypeError, KeyError, OSError)
STAGES = [dict(kind='recast', iters=1), dict(kind='finetune', iters=1)]


class Refused(Exception):
    """What a command line says before it ends with a status of its own."""


def refusal(action: Callable[[], object]) -> str:
    """Return the one line by which ``action`` refuses; anything else is lost."""
    line = taken_or_refused(action)
    assert line is not None, 'it was taken as if nothing were wrong with it'
    return line


def taken_or_refused(action: Callable[[], object], command: bool = False) -> str | None:
    """Return the one line by which ``action`` refuses, None where it does not; anything else is lost.

    The exception is one that the docstrings name, raised in mmrecast's own code; or, if it would be told at the end of
    a ``command``, one that is made into a line there.
    """
    try:
        action()
        return None
    except Refused as error:
        line = str(error)
    except MISTAKES as error:
        assert command or isinstance(error, TOLD), repr(error)
        frames = traceback.extract_tb(error.__traceback__)
        own = command or PACKAGE in Path(frames[-1].filename).resolve().parents
        assert own, f'raised in {frames[-1]}: {error!r}'
        line = explain(error)
        said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        assert command or '\n' not in said, repr(error)
    assert line and '\n' not in line and len(line) <= 1000, line
    return line


def tool(name: str, *words: object) -> str:
    """Run a command line in this process and return what it prints.

    Raises:
        Refused: It ended with a status other than 0 and one line that says why.
    """
    said, complained = io.StringIO(), io.StringIO()
    argv = [name, *map(str, words)]
    with patch.object(sys, 'argv', argv), redirect_stdout(said), redirect_stderr(complained):
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as end:
            if end.code:
                last = end.code if isinstance(end.code, str) else complained.getvalue().strip().splitlines()[-1]
                assert last.startswith('error: ') or ': error: ' in last, last
                raise Refused(last) from None
    assert 'Traceback' not in complained.getvalue(), complained.getvalue()
    return said.getvalue()


@functools.cache
def sound() -> Path:
    """Return a folder with a config, a teacher and what a finished run leaves; made once for a process."""
    holder = tempfile.TemporaryDirectory(prefix='torture_sound_')
    sound.holder = holder  # is removed at the end of the process
    folder = Path(holder.name)
    torch.manual_seed(0)
    torch.save(build_network(tiny.classifier()).state_dict(), folder / 'teacher.pth')
    cfg = config(folder)
    cfg.dump(folder / 'config.py')
    with redirect_stdout(io.StringIO()):
        tiny.run(Config.fromfile(folder / 'config.py'), folder / 'run')
    return folder


def config(folder: Path, **model: object) -> Config:
    """Return the config of the run in ``sound``, with ``model``'s entries changed."""
    options = dict(teacher_ckpt=str(folder / 'teacher.pth')) | model
    return tiny.config(tiny.recasting(**options), STAGES, checkpoint=dict(interval=1))


def checkpoint() -> Path:
    """Return a checkpoint of the run, of the middle of its schedule."""
    return sorted((sound() / 'run').glob('stage*.pth'))[-1]


def _ready(file: Path, resume: bool = False, **model: object) -> None:
    cfg = config(sound(), **model)
    ready_runner(cfg, work_dir=str(file.parent / 'work'), resume=str(file) if resume else False)


def _resumed_from_its_own(file: Path) -> None:
    work = file.parent / 'own'
    work.mkdir(exist_ok=True)
    (work / 'last_checkpoint').write_bytes(os.fsencode(f'/elsewhere/{file.name}'))
    with suppress(OSError, ValueError):  # there is one, or no file can be called so
        os.symlink(os.path.abspath(file), work / file.name)
    ready_runner(config(sound()), work_dir=str(work), resume=True)


def _connector(file: Path) -> None:
    phase = dict(
        student=None, teacher='backbone.layer3', teacher_connector='coder', loss=dict(type='L1Loss'), stage='pretrain'
    )
    link = dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))
    model = dict(
        type='SingleTeacherDistill', student=tiny.classifier(), teacher=tiny.classifier(), links=[phase, link],
        data_preprocessor=tiny.preprocessor(), connectors=dict(coder=dict(type='Paraphraser', pretrained=str(file))),
    )  # fmt: skip
    ready_runner(tiny.config(model, [dict(kind='train', iters=1)]), work_dir=str(file.parent / 'work'))


def _adjoined(file: Path) -> None:
    network = tiny.classifier(widths=(8, 8, 8), shortcut='B')
    model = dict(
        type='AdjoinedNetwork', network=network, above=4, checkpoint=str(file), data_preprocessor=tiny.preprocessor()
    )
    ready_runner(tiny.config(model, [dict(kind='train', iters=1)]), work_dir=str(file.parent / 'work'))


def _pretrained(file: Path) -> None:
    cfg = copy.deepcopy(tiny.classifier())
    cfg['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(file))
    start_network(cfg)


def _ensemble(file: Path) -> None:
    build_network(dict(type='TeacherEnsemble', teachers=dict(a=dict(network=tiny.classifier(), ckpt=str(file)))))


FIGURE = 'visualization/browse_filters.py'
PLACES: dict[str, Callable[[Path], object]] = {
    'load_file': load_file,
    'load_student': lambda file: load_student(str(file)),
    'load_weights': lambda file: load_weights(build_network(tiny.classifier()), file),
    'teacher_ckpt': lambda file: _ready(file, teacher_ckpt=str(file)),
    'a teacher that is a student file': lambda file: _ready(file, teacher=str(file), teacher_ckpt=None),
    '--resume CKPT': lambda file: _ready(file, resume=True),
    '--resume, the work dir': _resumed_from_its_own,
    'WORK_DIR/blocks': lambda file: read_block(file, {}),
    'trained_blocks': lambda file: _ready(file, trained_blocks={'backbone.layer1.0': str(file)}),
    'init_cfg Pretrained': _pretrained,
    'pretrained of a connector': _connector,
    'checkpoint of AdjoinedNetwork': _adjoined,
    'ckpt of TeacherEnsemble': _ensemble,
    'weights of TorchvisionClassifier': lambda file: build_network(
        dict(type='TorchvisionClassifier', name='squeezenet1_1', weights=str(file))
    ),
    'tools/test.py': lambda file: tool('test.py', sound() / 'config.py', file, '--work-dir', file.parent / 'work'),
    'tools/export_student.py': lambda file: tool('export_student.py', sound() / 'config.py', file, file.parent / 'o'),
    'browse_filters --teacher-ckpt': lambda file: tool(
        FIGURE, sound() / 'config.py', '--teacher-ckpt', file, '--out', file.parent / 'f.png'
    ),
    'browse_filters --student': lambda file: tool(
        FIGURE, sound() / 'config.py', '--teacher-ckpt', sound() / 'teacher.pth', '--student', file, '--out',
        file.parent / 'f.png',
    ),
    'get_complexity': lambda file: tool('analysis_tools/get_complexity.py', file),
    'benchmark_latency': lambda file: tool('analysis_tools/benchmark_latency.py', file, '--repeats', 1),
    'convert_cifar_resnet': lambda file: tool('model_converters/convert_cifar_resnet.py', file, file.parent / 'out'),
}  # fmt: skip
