"""The same seed twice, in processes that differ in what must not count: the same bits, for every algorithm."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import tiny
from torture.attack import Attack, Family
from torture.ranks import write
from torture.warm import Job, Warm
from zoo import leaves

from mmrecast.utils.checkpoint import load_file

STEPS, BATCH = 8, 32
PAIRS = ('resnet14_resnet8_digits', 'resnet14_resnet14_digits', 'resnet14b_alpha4_digits', 'resnet14b_digits')
LEAVES = {name: path for pair in PAIRS for name, path in leaves(pair).items()}
QUICK = ('crd', 'closed_form, apart')
SAMPLE = ('recasting', 'kd', 'crd', 'dafl', 'dan', 'closed_form, apart')  # of the attacks on what comes from outside
CLOSED = dict(start=dict(type='closed_form', images=40))
ADAM = [dict(kind='recast', blocks='all', epochs=1), dict(kind='finetune', epochs=1)]
APART = [dict(kind='recast', blocks='all', iters=3, parallel=True), dict(kind='finetune', epochs=1)]
FORMS = {  # of recasting, on the problem of tests/tiny.py
    'xavier': (tiny.recasting(), ADAM),
    'closed_form': (tiny.recasting(**CLOSED), ADAM),
    'closed_form, the teacher’s input': (tiny.recasting(**CLOSED, block_input='teacher'), ADAM),
    'xavier, apart': (tiny.recasting(block_input='teacher'), APART),
    'closed_form, apart': (tiny.recasting(**CLOSED, block_input='teacher'), APART),
    'dropout': (tiny.recasting(dict(type='PlainNet', dropout=0.3), recipe=[
        dict(source=['block1', 'block3'], target=dict(type='PlainBlock', dropout=0.3))]), ADAM),
}  # fmt: skip


@cache
def process(number: int) -> Warm:
    """Return one of two processes that were started apart, each with its own seed of hashes."""
    return Warm(PYTHONHASHSEED=('1', '4242')[number])


def command(name: str, folder: Path, workers: int, seed: int = 0) -> list:
    """Return the arguments of a short training by a method of the zoo or a form of recasting."""
    options = [f'train_dataloader.num_workers={workers}', f'randomness.seed={seed}']
    if name in FORMS:
        model, stages = FORMS[name]
        path = write(tiny.config(model, stages), folder / 'a.py')
    else:
        path = LEAVES[name]
        options += [f'train_cfg.budget={STEPS}', f'train_dataloader.batch_size={BATCH}']
        options += ['val_dataloader.dataset.num_samples=60', 'test_dataloader.dataset.num_samples=60']
        if 'teacher' in load_config(path).model and name not in ('byot',):
            options.append('model.teacher_ckpt=None')  # of random weights: which ones, the seed decides
    return [path, '--work-dir', folder / 'run', '--cfg-options', *options]


@cache
def load_config(path: Path):
    """Read a config."""
    from mmengine.config import Config

    return Config.fromfile(path)


def trained(name: str, folder: Path, number: int, workers: int, elsewhere: bool = False, extra: tuple = ()) -> dict:
    """Train in one of the two processes and return all that the run has come to."""
    folder.mkdir()
    job = Job([*command(name, folder, workers), *extra], folder / 'log.txt', folder=folder if elsewhere else None)
    (end,) = process(number).run(job, seconds=900)
    assert end.status == 0, end.said[-3000:]
    run = folder / 'run'
    last = load_file((run / 'last_checkpoint').read_text())
    return dict(
        student=tiny.weights(run),
        state=last['state_dict'],
        random=last['random'][0]['torch'],
        result=json.loads((run / 'result.json').read_text()),
    )


def check_same(one: dict, other: dict) -> None:
    """Check that two runs have come to the same bits."""
    for part in ('student', 'state'):
        assert one[part] and tiny.differing(one[part], other[part]) == [], part
    assert tiny.differing(dict(random=one['random']), dict(random=other['random'])) == []
    assert tiny.without_seconds(one['result']) == tiny.without_seconds(other['result'])
    for key in ('top1', 'images', 'seed', 'teacher'):
        assert one['result'][key] == other['result'][key], key


@contextmanager
def load() -> Iterator[None]:
    """Keep every core busy meanwhile."""
    words = [sys.executable, '-c', 'while True: pass']
    busy = [subprocess.Popen(words) for _ in range(4)]
    try:
        yield
    finally:
        for other in busy:
            other.kill()
            other.wait()


def twice(folder: Path, name: str, workers: tuple[int, int] = (0, 0), elsewhere: bool = False, loaded: bool = False):
    """Train in both processes, the second time with other workers, in another folder or on a busy machine."""
    one = trained(name, folder / 'one', 0, workers[0])
    if loaded:
        with load():
            other = trained(name, folder / 'other', 1, workers[1], elsewhere)
    else:
        other = trained(name, folder / 'other', 1, workers[1], elsewhere)
    check_same(one, other)


def flagged(folder: Path, name: str) -> None:
    """With ``--deterministic`` a run on a CPU gives the same bits twice, and says that it was asked for."""
    one, other = (trained(name, folder / str(n), n, 0, extra=('--deterministic',)) for n in (0, 1))
    check_same(one, other)
    assert one['result']['deterministic'] is True


def another_seed(folder: Path, name: str) -> None:
    """Another seed gives other weights: the comparison can fail."""
    one = trained(name, folder / 'one', 0, 0)
    other = trained(name, folder / 'other', 0, 0, extra=('randomness.seed=1',))
    assert tiny.differing(one['student'], other['student'])


def _attacks() -> list[Attack]:
    found = []
    for name in (*FORMS, *LEAVES):
        # Together, what must not count: hashes, the folder, how many workers load the data.
        make = partial(twice, name=name, workers=(0, 2), elsewhere=True)
        found.append(Attack(f'{name}: hashes, workers, folder', make, 0, name in QUICK))
    for name in SAMPLE:
        found.append(Attack(f'{name}: two workers both times', partial(twice, name=name, workers=(2, 2))))
        found.append(Attack(f'{name}: a busy machine', partial(twice, name=name, loaded=True)))
        found.append(Attack(f'{name}: --deterministic', partial(flagged, name=name)))
    found += [Attack(f'{name}: another seed', partial(another_seed, name=name)) for name in ('recasting', 'kd')]
    return found


DETERMINISM = Family(
    'determinism',
    'The same seed on the same machine with as many threads gives the same bits, whatever the hashes, the workers, the '
    'folder and the load.',
    _attacks(),
)
