"""Several processes of which one is killed, hangs, or has other code, config or data: the others end and say why."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import tiny
from torture.attack import Attack, Family, environment
from torture.warm import ROOT, Ended, Job, warm

SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
STAGES = [dict(kind='recast', blocks='all', epochs=1), dict(kind='finetune', epochs=2)]
APART = [dict(kind='recast', blocks='all', iters=4, parallel=True), dict(kind='finetune', epochs=1)]
MINUTE = 60
SHORT = 4.0  # seconds of patience in the short form


def config(apart: bool = False, workers: int = 0, patience: float | None = None, hooks: tuple = (), **data: object):
    """Return the run that is attacked: three stages, three steps of 16 images per process and epoch.

    ``data`` are for an ``OddDigits`` in the place of the training data.
    """
    if apart:
        model = tiny.recasting(start=dict(type='closed_form', images=40), block_input='teacher')
        cfg = tiny.config(model, APART, hooks=hooks, train_dataloader=tiny.loader('train', 96, 16))
    else:
        model = tiny.recasting(
            dict(type='PlainNet'), recipe=[dict(source=['block1', 'block3'], target='PlainBlock')]
        )  # fmt: skip
        cfg = tiny.config(
            model, STAGES, optim_wrapper=SGD, hooks=hooks, train_dataloader=tiny.loader('train', 96, 16),
            val_dataloader=tiny.loader('test', 60, 16),
        )  # fmt: skip
    cfg.train_dataloader.num_workers = workers
    if data:
        cfg.train_dataloader.dataset.update(type='OddDigits', **data)
    if patience is not None:
        cfg.env_cfg = dict(patience=patience)
    return cfg


def write(cfg, path: Path, *modules: str) -> Path:
    """Write a config that imports what attacks register."""
    tiny.write(cfg, path)
    imports = ['tiny', 'torture.misdeeds', *modules]
    path.write_text(path.read_text() + f'\ncustom_imports = dict(imports={imports}, allow_failed_imports=False)\n')
    return path


def two(folder: Path, paths: list[Path], *arguments: object, before: tuple = ('', ''), **options) -> list[Ended]:
    """Train with two processes; ``paths`` and ``before`` are those of each."""
    jobs = [
        Job([path, '--work-dir', folder / 'run', *arguments], folder / f'rank{rank}.txt', rank, before[rank])
        for rank, path in enumerate(paths)
    ]
    return warm().run(*jobs, **options)


@cache
def whole(apart: bool = False, workers: int = 0) -> dict:
    """Return the weights of the run that nobody attacks."""
    with TemporaryDirectory(prefix='torture_') as name:
        folder = Path(name)
        ended = two(folder, [write(config(apart, workers), folder / 'a.py')] * 2)
        assert [end.status for end in ended] == [0, 0], ended[0].said[-3000:]
        return tiny.weights(folder / 'run')


def resumed(folder: Path, apart: bool = False, workers: int = 0) -> None:
    """Go on with a clean config and see that the bits are those of the run that nobody attacked."""
    how = ['--resume'] if (folder / 'run' / 'last_checkpoint').is_file() else []  # none before the first checkpoint
    ended = two(folder, [write(config(apart, workers), folder / 'resumed.py')] * 2, *how)
    assert [end.status for end in ended] == [0, 0], ended[0].said[-3000:] + ended[1].said[-3000:]
    assert tiny.differing(tiny.weights(folder / 'run'), whole(apart, workers)) == []


def check_ended(other: Ended, note: Path, guilty: int, *words: str) -> None:
    """Check that a process ended within a minute, not well, and that it said in one line which one was at fault."""
    assert other.status > 0, f'it ended with {other.status}: {other.said[-2000:]}'
    assert 'Traceback' not in other.said and 'gloo' not in other.said.lower(), other.said[-3000:]
    (line,) = other.errors
    for word in (f'rank {guilty} ', *words):
        assert word in line, line
    late = other.at - float(note.read_text())
    assert late < MINUTE, f'it ended {late:.0f} s later'


def misdeed(
    folder: Path, deed: str, at: str, n: int, rank: int = 1, patience: float | None = None, kept_by_first: bool = False
) -> None:
    """Let one process do something; the other ends with the cause, and resuming gives the bits."""
    note, apart = folder / 'note', at == 'apart'
    hook = dict(type='Misdeed', deed=deed, at=at, n=n, rank=rank, note=str(note))
    path = write(config(apart, patience=patience, hooks=(hook,)), folder / 'attacked.py')
    ended = two(folder, [path] * 2, kept_by_first=kept_by_first)
    assert ended[rank].status != 0 and note.is_file(), ended[rank].said[-3000:]
    words = dict(kill='lost', stop='lost', hang='misdeeds.py')[deed]
    if kept_by_first and rank == 0:
        (line,) = ended[1].errors
        assert ended[1].status > 0 and 'rank 0, or torchrun' in line and 'Traceback' not in ended[1].said, ended[1].said
    else:
        check_ended(ended[1 - rank], note, rank, words)
    if deed == 'hang':
        check_ended(ended[rank], note, rank, 'hangs', 'misdeeds.py')
    resumed(folder, apart)


def slow(folder: Path, deed: str, at: str, n: int, rank: int = 0) -> None:
    """One process has to do for longer than the patience, or waits for less: nobody ends, and the bits are the same."""
    hook = dict(type='Misdeed', deed=deed, at=at, n=n, rank=rank, note=str(folder / 'note'))
    path = write(config(at == 'apart', patience=SHORT, hooks=(hook,)), folder / 'slow.py')
    ended = two(folder, [path] * 2)
    assert [end.status for end in ended] == [0, 0], ended[0].said[-3000:] + ended[1].said[-3000:]
    assert (folder / 'note').is_file()
    assert tiny.differing(tiny.weights(folder / 'run'), whole(at == 'apart')) == []


def data_broken(folder: Path, how: str, workers: int, rank: int = 1, patience: float | None = None) -> None:
    """A process's data cannot be read in the midst of an epoch."""
    note = folder / 'note'
    path = write(config(False, workers, patience, how=how, rank=rank, note=str(note)), folder / 'attacked.py')
    ended = two(folder, [path] * 2)
    words = {'raise': ('failed', 'ValueError', 'the disk is gone'), 'hang': ('hangs',), 'kill': ('failed', 'worker')}
    check_ended(ended[1 - rank], note, rank, *words[how])
    assert ended[rank].status != 0
    resumed(folder, workers=workers)


def refused(folder: Path, paths: list[Path], *words: str, arguments: tuple = (), **options) -> None:
    """Check that neither of two processes begins, that both say why in a line, and that nothing is left."""
    ended = two(folder, paths, *arguments, **options)
    for end in ended:
        assert end.status == 2, end.said[-3000:]
        assert 'Traceback' not in end.said and len(end.errors) == 1, end.said[-3000:]
        assert 'rank 1 has another' in end.errors[0], end.errors
        for word in words:
            assert word in end.errors[0], end.errors
    assert not list((folder / 'run').glob('*.pth'))


def other_data(folder: Path, how: str, word: str, which: str = 'train') -> None:
    cfg = config()
    odd = dict(how=how, rank=1, note=str(folder / 'note'), **cfg[f'{which}_dataloader'].dataset)
    cfg[f'{which}_dataloader'].dataset = odd | dict(type='OddDigits')
    refused(folder, [write(cfg, folder / 'a.py')] * 2, word)


def other_config(change: Callable, words: list[str], folder: Path) -> None:
    paths = []
    for rank in (0, 1):
        cfg = config()
        if rank:
            change(cfg)
        (folder / f'of{rank}').mkdir()
        paths.append(write(cfg, folder / f'of{rank}' / 'a.py'))
    refused(folder, paths, *words)


def other_code(folder: Path, what: str) -> None:
    patches = dict(
        version=('import mmrecast.utils.versions as v; v.__version__ = "0.0.9"', 'mmrecast', '0.0.9'),
        source=('import mmrecast.engine.agreement as a; a.digest_sources = lambda name: "other"', 'code of mmrecast'),
        torch=('import torch; torch.__version__ = "2.4.0"', 'another torch', '2.4.0'),
    )
    if what == 'own':  # a block of the user's, of which one machine has an older copy
        for rank in (0, 1):
            (folder / f'of{rank}').mkdir()
            (folder / f'of{rank}' / 'my_own_block.py').write_text(f'number = {rank}\n')
        before = tuple(f'import sys; sys.path.insert(0, {str(folder / f"of{rank}")!r})' for rank in (0, 1))
        path = write(config(), folder / 'a.py', 'my_own_block')
        return refused(folder, [path] * 2, 'code of my_own_block', before=before)
    patch, *words = patches[what]
    return refused(folder, [write(config(), folder / 'a.py')] * 2, *words, before=('', patch))


def other_checkpoint(folder: Path) -> None:
    """Two machines with folders of their own, of which one has an older checkpoint."""
    hook = dict(type='Misdeed', deed='kill', at='iter', n=8, rank=1, note=str(folder / 'note'))
    two(folder, [write(config(patience=SHORT, hooks=(hook,)), folder / 'a.py')] * 2)
    last = sorted((folder / 'run').glob('stage*.pth'))
    path = write(config(), folder / 'b.py')
    jobs = [
        Job([path, '--work-dir', folder / 'run', '--resume', last[rank]], folder / f'rank{rank}.txt', rank)
        for rank in (0, 1)
    ]
    for end in warm().run(*jobs):
        assert end.status == 2 and len(end.errors) == 1 and 'rank 1 has another checkpoint' in end.errors[0], end.said
    resumed(folder)


def suspended(folder: Path) -> None:
    """Both processes are stopped for longer than the patience and continued, as a batch system does it."""
    code = (
        'import os, signal, subprocess, threading, time\n'
        'def both():\n'
        f'    while not os.path.exists({str(folder / "note")!r}): time.sleep(0.1)\n'
        '    subprocess.Popen(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 14; kill -CONT {os.getpid()}"])\n'
        'threading.Thread(target=both, daemon=True).start()\n'
    )
    hook = dict(type='Misdeed', deed='pause2', at='iter', n=4, rank=0, note=str(folder / 'note'))
    path = write(config(patience=SHORT, hooks=(hook,)), folder / 'a.py')
    ended = two(folder, [path] * 2, before=(code, code))
    assert [end.status for end in ended] == [0, 0], ended[0].said[-3000:] + ended[1].said[-3000:]
    assert tiny.differing(tiny.weights(folder / 'run'), whole()) == []


def launched(folder: Path, path: Path, *arguments: str, port: int | None = None) -> subprocess.CompletedProcess:
    """Train with two processes by tools/dist_train.sh."""
    if port is None:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
    command = ['bash', 'tools/dist_train.sh', path, '2', '--work-dir', folder / 'run', *arguments]
    env = environment(PYTHON=sys.executable, PORT=str(port), CUDA_VISIBLE_DEVICES='')
    return subprocess.run([str(c) for c in command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


def by_command(folder: Path, deed: str, words: tuple[str, ...]) -> None:
    """By tools/dist_train.sh, which ends the others when one process dies, and says which."""
    note = folder / 'note'
    hook = dict(type='Misdeed', deed=deed, at='forward', n=5, rank=1, note=str(note))
    done = launched(folder, write(config(hooks=(hook,)), folder / 'a.py'))
    late = time.time() - float(note.read_text())
    assert done.returncode > 0 and late < MINUTE, f'{done.returncode} after {late:.0f} s'
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in done.stderr and 'gloo' not in done.stderr.lower(), done.stderr
    for word in ('rank 1 ', *words):
        assert any(word in line for line in lines), done.stderr
    assert len(lines) <= 4, lines
    resumed(folder)


def port_taken(folder: Path) -> None:
    path = write(config(), folder / 'a.py')
    with socket.socket() as taken:
        taken.bind(('0.0.0.0', 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = launched(folder, path, port=port)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and f'port {port} of 127.0.0.1 is taken' in line and 'PORT=' in line, done.stderr
    assert not (folder / 'run').exists()


def as_one(folder: Path) -> None:
    """Two processes with half the batch each give the weights of one, but for the order of summation: 1e-5."""
    cfg = config()
    cfg.train_dataloader.batch_size = 32
    job = Job([write(cfg, folder / 'a.py'), '--work-dir', folder / 'run'], folder / 'log.txt')
    (end,) = warm().run(job)
    assert end.status == 0, end.said[-3000:]
    one = tiny.weights(folder / 'run')
    for name, value in whole().items():
        assert (value - one[name]).norm() <= 1e-5 * one[name].norm(), name


def _entry(name: str, value: object) -> Callable:
    return lambda cfg: cfg.merge_from_dict({name: value})


def _recipe(cfg) -> None:
    cfg.model.recipe[0]['source'] = ['block1']


KILLED = [  # where one process is killed
    ('in a recast stage', 'forward', 2), ('in fine-tuning', 'forward', 10), ('at a stage boundary', 'stage', 1),
    ('at a stage boundary', 'stage', 2), ('in a checkpoint’s barrier', 'barrier', 1),
    ('in a checkpoint’s barrier', 'barrier', 3), ('in a block apart', 'apart', 2), ('in validation', 'val', 1),
    ('in validation', 'val', 3),
]  # fmt: skip
_QUICK = {('killed in a recast stage', 1), ('killed in a block apart', 1)}


def _attacks() -> list[Attack]:
    found = []
    for rank in (1, 0):
        for where, at, n in KILLED:
            kind = f'killed {where}'
            short = (kind, rank) in _QUICK
            found.append(Attack(kind, partial(misdeed, deed='kill', at=at, n=n, rank=rank), n, short))
        for deed, kind in (('hang', 'hangs'), ('stop', 'stopped')):
            for at, n in (('forward', 4), ('barrier', 2), ('apart', 2), ('val', 2)):
                make = partial(misdeed, deed=deed, at=at, n=n, rank=rank)
                found.append(Attack(f'{kind} in {at}', make, rank))
    quick = partial(misdeed, deed='hang', at='forward', n=4, patience=SHORT)
    found.append(Attack('hangs, with less patience', quick, 0, True))
    for rank in (0, 1):
        found.append(
            Attack(
                'killed, no launcher', partial(misdeed, deed='kill', at='forward', n=5, rank=rank, kept_by_first=True)
            )
        )
    for how, workers in (('raise', 0), ('raise', 2), ('kill', 2)):
        for rank in (0, 1):
            make = partial(data_broken, how=how, workers=workers, rank=rank)
            found.append(Attack(f'data that {how}, {workers} workers', make, rank))
    found.append(Attack('data that hang, 2 workers', partial(data_broken, how='hang', workers=2, patience=SHORT)))
    for how, word in (('shorter', 'images'), ('pixels', 'content'), ('labels', 'content')):
        found.append(Attack(f'other data: {how}', partial(other_data, how=how, word=word), 0, how == 'pixels'))
        found.append(Attack(f'other test data: {how}', partial(other_data, how=how, word=word, which='val')))
    for change, *words in (
        (_entry('randomness.seed', 1), 'config entry randomness.seed', 'rank 0 has 0'),
        (_recipe, 'config entry model.recipe.0.source'),
        (_entry('train_cfg.stages.1.epochs', 1), 'config entry train_cfg.stages.1.epochs'),
        (_entry('optim_wrapper.optimizer.lr', 0.5), 'config entry optim_wrapper.optimizer.lr', '0.5'),
        (_entry('randomness.deterministic', True), 'config entry randomness.deterministic', 'not given'),
    ):
        found.append(Attack(f'other config: {words[0].split()[-1]}', partial(other_config, change, words)))
    for what in ('version', 'source', 'torch', 'own'):
        found.append(Attack(f'other code: {what}', partial(other_code, what=what), 0, what == 'source'))
    found.append(Attack('other checkpoint', other_checkpoint))
    for deed, at, n in (('work9', 'forward', 4), ('work9', 'barrier', 2), ('work9', 'val', 1), ('work9', 'apart', 1),
                        ('pause2', 'forward', 4)):  # fmt: skip
        found.append(Attack(f'not ended: {deed} s in {at}', partial(slow, deed=deed, at=at, n=n), 0))
    found.append(Attack('not ended: suspended', suspended))
    found.append(Attack('dist_train.sh: killed', partial(by_command, deed='kill', words=('SIGKILL',))))
    found.append(Attack('dist_train.sh: hangs', partial(by_command, deed='hang', words=('hangs', 'misdeeds.py'))))
    found.append(Attack('dist_train.sh: port taken', port_taken))
    found.append(Attack('two processes as one', as_one))
    return found


RANKS = Family(
    'ranks',
    'A process that is lost, hangs or differs ends all others within a minute; each says which one and why, and '
    '--resume gives the bits of the run that was left alone.',
    _attacks(),
)
