"""Attacks by a disk: full, read-only, gone while a file is written; what was whole stays, and the run can go on."""

import functools
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from searching import search
from tiny import NO_TEST, NO_VAL, config, differing, recasting, run, weights, write
from torture.attack import ROOT, TRAIN, Attack, Family, command

from mmrecast.apis import load_student
from mmrecast.registry import HOOKS
from mmrecast.utils import disk as utils_disk
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.disk import DiskError, NotingFile
from mmrecast.utils.work_dir_lock import _held

STAGES = [dict(kind='recast', blocks='all', iters=4), dict(kind='finetune', iters=5)]
APART = [dict(STAGES[0], parallel=True), STAGES[1]]
DROPPING = dict(
    teacher=dict(type='PlainNet', dropout=0.3),
    recipe=[dict(source=['block1', 'block3'], target=dict(type='PlainBlock', dropout=0.2))],
)
KIB = 1024


def tiny_config(stages: list[dict] = STAGES, hooks: tuple = (), **checkpoint) -> Config:
    """Return the config that is attacked: dropout, a checkpoint behind every iteration."""
    model = recasting(**DROPPING, block_input='teacher' if stages is APART else 'student')
    return config(model, stages, checkpoint=dict(iter_interval=1) | checkpoint, hooks=hooks)


@functools.cache
def expected(apart: bool = False) -> dict[str, torch.Tensor]:
    """Return the weights of the run that nothing attacked."""
    with tempfile.TemporaryDirectory() as folder:
        run(tiny_config(APART if apart else STAGES), folder)
        return weights(folder)


# ---- disks ----------------------------------------------------------------------------------------------------------


@functools.cache
def can_mount() -> bool:
    """Tell whether a small file system can be mounted here."""
    if sys.platform != 'linux' or os.geteuid() or shutil.which('mount') is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', folder], capture_output=True).returncode == 0
        return mounted and subprocess.run(['umount', folder], capture_output=True).returncode == 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a disk of so many KiB meanwhile, and return where; it is gone afterwards."""
    if not can_mount():
        pytest.skip('mounting a small file system needs root, or is not allowed here')
    place = folder / 'disk'
    place.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={kib}k', 'tmpfs', str(place)], check=True)
    try:
        yield place
    finally:
        logging.shutdown()  # its log files
        subprocess.run(['umount', '-l', str(place)], check=True)


def remount(place: Path, options: str, handlers: Sequence[logging.Handler] = ()) -> None:
    """Change a mounted disk: its size, or whether it can be written to."""
    for handler in handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream.name != '/dev/full':
            old = handler.setStream(open('/dev/full', 'w'))  # a file open for writing keeps a disk writable
            old.close()
    for lock in list(_held.values()):  # and so does the lock of the work dir
        lock.let_go()
    subprocess.run(['mount', '-o', f'remount,{options}', str(place)], check=True)


@HOOKS.register_module()
class ChangeDisk(Hook):
    """Remount a disk behind some iterations: ``when`` has the options by iteration of the run."""

    priority = 'VERY_HIGH'

    def __init__(self, place: str, when: dict) -> None:
        self.place, self.when = Path(place), {int(k): v for k, v in when.items()}

    def at_position(self, runner, kind: str) -> None:
        options = self.when.get(runner.train_loop.state()['iter']) if kind == 'iter' else None
        if options:
            remount(self.place, options, runner.logger.handlers)


@contextmanager
def room_for(budget: int, only: str = '') -> Iterator[None]:
    """Let the disk be full after ``budget`` more bytes of files whose names contain ``only``: no root is needed."""
    left = [budget]
    write_through = NotingFile.write

    def write_some(file: NotingFile, data: bytes) -> int:
        if only in file._file.name:
            left[0] -= memoryview(data).nbytes
            if left[0] < 0:
                file.error = OSError(28, 'No space left on device')
                raise file.error
        return write_through(file, data)

    with mock.patch.object(utils_disk.NotingFile, 'write', write_some):
        yield


# ---- what must hold -------------------------------------------------------------------------------------------------


def one_line(error: BaseException, *parts: str) -> None:
    """Check the message of a run that stopped."""
    text = str(error)
    missing = [part for part in ('cannot be written', *parts) if part not in text]
    assert not missing and '\n' not in text, text


def whole_files(work_dir: Path) -> list[Path]:
    """Check that every file there is whole and none is left over; return the checkpoints."""
    assert not list(work_dir.rglob('.*')), list(work_dir.rglob('.*'))
    found = sorted(work_dir.glob('stage*.pth'))
    for path in [*work_dir.rglob('*.pth')]:
        load_file(path)
    for path in work_dir.glob('*.json'):
        json.loads(path.read_text())
    note = work_dir / 'last_checkpoint'
    assert note.is_file() or len(found) < 2
    if note.is_file():
        assert work_dir / Path(note.read_text()).name in found
    return found


def same_in_the_end(cfg: Config, work_dir: Path, apart: bool = False) -> None:
    """Go on (from the beginning, where there is nothing to go on from) and compare the weights, bit for bit."""
    resume = (work_dir / 'last_checkpoint').is_file()
    result = run(cfg, work_dir, resume=resume)
    assert result['complete'] and differing(weights(work_dir), expected(apart)) == []
    load_student(work_dir / 'student.pth')
    whole_files(work_dir)


def stops(work_dir: Path, cfg: Config, *parts: str) -> bool:
    """Train; return whether the disk stopped it, after looking at what it said and left."""
    try:
        run(cfg, work_dir)
    except DiskError as error:
        one_line(error, *parts)
        if work_dir.is_dir():
            whole_files(work_dir)
        return True
    return False


# ---- attacks --------------------------------------------------------------------------------------------------------


def full(folder: Path, kib: int) -> None:
    """The disk is full at some moment; the run stops, and goes on when there is room."""
    with small_disk(folder, kib) as place:
        stopped = stops(place / 'run', tiny_config(), 'No space left on device', 'MiB are free', 'make room there')
        assert stopped or kib > 150
        remount(place, 'size=64m')
        same_in_the_end(tiny_config(), place / 'run')


def full_for_a_while(folder: Path, begin: int, end: int) -> None:
    """Full or read-only between two iterations, told and waited out."""
    with small_disk(folder, 64 * KIB) as place:
        options = {begin: 'size=4k' if begin % 2 else 'ro', end: 'rw,size=64m'}
        change = dict(type='ChangeDisk', place=str(place), when={str(k): v for k, v in options.items()})
        if options[begin] != 'ro':  # a tmpfs cannot shrink below what it holds
            change['when'][str(begin)] = f'size={_used(place) + 700}k'
        run(tiny_config(hooks=[change], on_failure='warn'), place / 'run')
        assert differing(weights(place / 'run'), expected()) == []
        assert len(whole_files(place / 'run')) == 2


def _used(place: Path) -> int:
    return shutil.disk_usage(place).used // KIB


def read_only(folder: Path, at: int) -> None:
    """Read-only from an iteration on: the run stops, and goes on when it can be written to."""
    with small_disk(folder, 64 * KIB) as place:
        change = dict(type='ChangeDisk', place=str(place), when={str(at): 'ro'})
        assert stops(place / 'run', tiny_config(hooks=[change]), 'Read-only file system', 'have it mounted for writing')
        remount(place, 'rw')
        same_in_the_end(tiny_config(), place / 'run')


def read_only_from_the_beginning(folder: Path) -> None:
    """A work dir that cannot be made is told before anything is built."""
    with small_disk(folder, KIB) as place:
        remount(place, 'ro')
        path = write(tiny_config(), folder / 'tiny_config.py')
        status, _, said = command([*TRAIN, path, '--work-dir', place / 'run'], folder, CUDA_VISIBLE_DEVICES='')
        errors = [line for line in said.splitlines() if line.startswith('error: ')]
        assert status == 2 and len(errors) == 1 and 'Traceback' not in said, said[-2000:]
        assert 'Read-only file system' in errors[0] and 'have it mounted for writing' in errors[0]


def patched(folder: Path, budget: int, apart: bool = False) -> None:
    """Writes fail from some byte on, wherever that is; no root is needed."""
    cfg, work_dir = tiny_config(APART if apart else STAGES), folder / 'run'
    with room_for(budget):
        assert stops(work_dir, cfg, 'No space left on device', 'make room there') or budget > 500 * KIB
    if not work_dir.is_dir():
        return
    same_in_the_end(cfg, work_dir, apart)


def patched_and_waited_out(folder: Path, only: str, apart: bool = False) -> None:
    """Writes of some files always fail, and are only told: the student is the same, and whole."""
    stages = APART if apart else STAGES
    with room_for(0, only):
        run(tiny_config(stages, on_failure='warn'), folder / 'run')
    assert differing(weights(folder / 'run'), expected(apart)) == []
    assert not list(folder.rglob('.*'))


def no_student(folder: Path) -> None:
    """The last files of all fail: the run says so, is not complete, and its last checkpoint writes them again."""
    with room_for(0, 'student.pth'):
        assert stops(folder / 'run', tiny_config(on_failure='warn'), 'student.pth')
    assert not json.loads((folder / 'run' / 'result.json').read_text())['complete']
    same_in_the_end(tiny_config(), folder / 'run')


def no_widths(folder: Path, on_failure: str) -> None:
    """widths.json of a search cannot be written; what there was of it is whole."""
    quiet = NO_VAL | NO_TEST | dict(hooks=[dict(type='WidthHook')], checkpoint=dict(on_failure=on_failure))
    sgd = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5))
    cfg = config(search(), [dict(kind='search', epochs=3, val=False)], optim_wrapper=sgd, **quiet)
    run(cfg, folder / 'whole')
    records = json.loads((folder / 'whole' / 'widths.json').read_text())
    with room_for(len((folder / 'whole' / 'widths.json').read_text()), 'widths.json'):
        stopped = stops(folder / 'run', cfg, 'widths.json')
    assert stopped == (on_failure == 'stop') and json.loads((folder / 'run' / 'widths.json').read_text())
    if stopped:
        run(cfg, folder / 'run', resume=(folder / 'run' / 'last_checkpoint').is_file())
        assert json.loads((folder / 'run' / 'widths.json').read_text()) == records
    assert differing(weights(folder / 'run'), weights(folder / 'whole')) == []


def gone_meanwhile(folder: Path, nth: int) -> None:
    """The work dir vanishes while the n-th checkpoint is written: one line, and nothing half-written comes back."""
    saved, save = [], torch.save

    def save_and_lose(*args, **kwargs) -> None:
        save(*args, **kwargs)
        saved.append(args)
        if len(saved) == nth:
            shutil.rmtree(folder / 'run')

    with mock.patch.object(torch, 'save', save_and_lose):
        assert stops(folder / 'run', tiny_config(), 'No such file or directory', 'its folder has gone')
    assert not list(folder.rglob('*.pth')) and not list(folder.rglob('.*'))
    same_in_the_end(tiny_config(), folder / 'run')


@HOOKS.register_module()
class LoseWorkDir(Hook):
    """Remove the work dir behind an iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, at: int) -> None:
        self.at = at

    def at_position(self, runner, kind: str) -> None:
        if kind == 'iter' and runner.train_loop.state()['iter'] == self.at:
            shutil.rmtree(runner.work_dir)


def gone_between(folder: Path, at: int) -> None:
    """The work dir vanishes between two checkpoints: it is made again, and the run ends as it should."""
    run(tiny_config(hooks=[dict(type='LoseWorkDir', at=at)]), folder / 'run')
    assert differing(weights(folder / 'run'), expected()) == []
    whole_files(folder / 'run')


def limited_command(folder: Path) -> None:
    """``ulimit -f`` stops tools/train.py with status 2 and one line, and leaves nothing of the file."""
    path, work_dir = write(tiny_config(), folder / 'tiny_config.py'), folder / 'run'
    words = ['bash', '-c', 'ulimit -f 24; exec "$@"', 'limited', *TRAIN, path, '--work-dir', work_dir]
    status, _, said = command(words, folder, CUDA_VISIBLE_DEVICES='')
    errors = [line for line in said.splitlines() if line.startswith('error: ')]
    assert status == 2 and len(errors) == 1 and 'Traceback' not in said, said[-2000:]
    assert 'stage000_iter' in errors[0] and 'File too large' in errors[0] and 'ulimit -f' in errors[0]
    assert whole_files(work_dir) == []


def full_export(folder: Path) -> None:
    """tools/export_student.py on a full disk: one line, no file."""
    path = write(tiny_config(), folder / 'tiny_config.py')
    run(tiny_config(), folder / 'run')
    last = (folder / 'run' / 'last_checkpoint').read_text()
    with small_disk(folder, 8) as place:
        words = [sys.executable, ROOT / 'tools' / 'export_student.py', path, last, place / 'student.pth']
        status, _, said = command(words, folder, CUDA_VISIBLE_DEVICES='')
        assert status == 2 and said.count('error: ') == 1 and 'No space left on device' in said, said[-2000:]
        assert not list(place.iterdir())


def full_comparison(folder: Path) -> None:
    """tools/compare.py on a full disk: one line, no part of a table or a page."""
    run(tiny_config(), folder / 'run')
    with small_disk(folder, 4) as place:
        words = [sys.executable, ROOT / 'tools' / 'compare.py', folder / 'run', '--out', place / 'compared']
        status, _, said = command(words, folder, CUDA_VISIBLE_DEVICES='')
        assert status == 2 and said.count('error: ') == 1 and 'No space left on device' in said, said[-2000:]
        assert not [path for path in place.rglob('*') if path.is_file() and path.name.startswith('.')]


def two_processes(folder: Path, on_failure: str) -> None:
    """Two processes on a disk that is too small: both stop at once, or both go on; with room they end alike."""
    path = write(tiny_config(on_failure=on_failure), folder / 'tiny_config.py')
    words = ['bash', ROOT / 'tools' / 'dist_train.sh', path, '2', '--work-dir']
    changes = dict(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='', PORT=str(random.randint(20000, 60000)))
    status, _, said = command([*words, folder / 'whole'], folder, **changes)
    assert status == 0, said[-2000:]
    with small_disk(folder, 100) as place:
        status, _, said = command([*words, place / 'run'], folder, **changes)
        assert status != 0 and 'No space left on device' in said and 'cannot be written' in said, said[-2000:]
        assert not list((place / 'run').glob('.*'))
        remount(place, 'size=64m')
        resume = ['--resume'] if (place / 'run' / 'last_checkpoint').is_file() else []
        status, _, said = command([*words, place / 'run', *resume], folder, **changes)
        assert status == 0, said[-2000:]
        assert differing(weights(place / 'run'), weights(folder / 'whole')) == []


def lost_lines(folder: Path) -> None:
    """Log and scalars cannot be written from the first line on: told once each, and the run ends as it should."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    @HOOKS.register_module(force=True)
    class FullLogs(Hook):
        priority = 'VERY_HIGH'

        def before_train(self, runner) -> None:
            runner.logger.addHandler(Listener())
            for handler in runner.logger.handlers:
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    Path(handler.baseFilename).unlink()
                    Path(handler.baseFilename).symlink_to('/dev/full')
            scalars = Path(runner._log_dir, 'vis_data')
            for name in [f'{runner.timestamp}.json', 'scalars.json']:
                (scalars / name).unlink(missing_ok=True)
                (scalars / name).symlink_to('/dev/full')

    cfg = tiny_config(hooks=[dict(type='FullLogs')])
    cfg.default_hooks.logger.interval, cfg.log_level = 1, 'INFO'
    run(cfg, folder / 'run')
    assert differing(weights(folder / 'run'), expected()) == []
    once = [text for text in told if 'cannot be written' in text or 'cannot write' in text]
    assert len(once) == 2 and any('log' in text for text in once) and any('LocalVisBackend' in text for text in once)


def attack(kind: str, make: Callable, *args, seed: int = 0, short: bool = False) -> Attack:
    """Return the attack ``make(folder, *args)``."""
    return Attack(kind, lambda folder: make(folder, *args), seed, short)


def _drawn(number: int, low: int, high: int) -> list[int]:
    return [random.Random(f'disk {i}').randint(low, high) for i in range(number)]


MOUNTED = [
    *(attack('a full disk, then room', full, kib, seed=i, short=i == 0) for i, kib in enumerate(_drawn(40, 20, 200))),
    *(attack('read-only from an iteration on', read_only, at, seed=at, short=at == 6) for at in range(1, 13)),
    *(
        attack('full or read-only for a while, told', full_for_a_while, a, a + 3, seed=a, short=a in (2, 5))
        for a in range(1, 9)
    ),
    attack('a work dir on a read-only disk, by command', read_only_from_the_beginning, short=True),
    attack('an export to a full disk, by command', full_export),
    attack('a comparison on a full disk, by command', full_comparison),
    attack('two processes on a full disk, then room', two_processes, 'stop'),
    attack('two processes on a full disk, told, then room', two_processes, 'warn'),
]
ANYWHERE = [
    *(
        attack('writes fail from a byte on', patched, n, seed=i, short=i < 2)
        for i, n in enumerate(_drawn(40, 0, 400 * KIB))
    ),
    *(
        attack('blocks apart, writes fail from a byte on', patched, n, True, seed=i, short=i < 1)
        for i, n in enumerate(_drawn(20, 0, 200 * KIB))
    ),
    *(
        attack(f'{only} never written, told', patched_and_waited_out, only, apart, short=True)
        for only, apart in (('.stage', False), ('last_checkpoint', False), ('block', True))
    ),
    attack('student.pth cannot be written, then room', no_student, short=True),
    attack('widths.json cannot be written, then room', no_widths, 'stop', short=True),
    attack('widths.json cannot be written, told', no_widths, 'warn', short=True),
    *(attack('the work dir vanishes during a save', gone_meanwhile, n, seed=n, short=n == 3) for n in range(1, 15)),
    *(attack('the work dir vanishes between saves', gone_between, n, seed=n, short=n == 5) for n in range(1, 13)),
    attack('a limit on the size of files, by command', limited_command, short=True),
    attack('log and scalars never written', lost_lines, short=Path('/dev/full').exists()),
]
PROMISE = 'A disk that fails costs no more than what was trained since the last checkpoint, and is told in one line.'
UNDER_PYTEST = 'pytest' in sys.argv[0] or 'PYTEST_VERSION' in os.environ  # which shows what is skipped, and why
DISK = Family('disk', PROMISE, [*(MOUNTED if can_mount() or UNDER_PYTEST else ()), *ANYWHERE])
