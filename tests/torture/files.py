"""Files from strangers: nothing in them runs, none takes the machine's memory, each ends in one line that names it."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torture.attack import Attack, Family
from torture.hostile import FORMS, GADGETS, PICKLES, write_bomb, write_zip_bomb
from torture.images import IMAGES, PLACED
from torture.limits import apart, in_time
from torture.places import PLACES, checkpoint, refusal, sound, tool
from torture.students import STUDENTS

from mmrecast.analysis.results import read_results
from mmrecast.datasets import CIFAR10
from mmrecast.datasets.official import load_batch

GIGABYTE = 1 << 30


# ---- pickles that run something -------------------------------------------------------------------------------------


def _hostile(folder: Path, gadget: str, forms: list[str], place: str, index: int = 0) -> None:
    mark = folder / 'mark'
    for form in forms:
        file = folder / f'{index}_{form}.pth'
        content = dict(state_dict=dict(w=torch.ones(2)), x=GADGETS[gadget](mark), weights={}, plan=None)
        FORMS[form](content, file)
        with in_time():
            line = refusal(lambda file=file: PLACES[place](file))
        assert file.name in line, line
        assert not mark.exists(), f'{gadget} ran at {place}'
    assert not (folder.parent / 'escaped.pkl').exists()


def _would_run(folder: Path) -> None:
    """See that a gadget does run where it is read without care: else the others would prove nothing."""
    pickle.loads(pickle.dumps(GADGETS['os.system'](folder / 'mark')))
    assert (folder / 'mark').exists()


def _through_compare(folder: Path, gadget: str) -> None:
    mark, work = folder / 'mark', folder / 'work'
    work.mkdir()
    shutil.copy(sound() / 'run' / 'result.json', work)
    FORMS['zip'](dict(format='mmrecast.student/1', x=GADGETS[gadget](mark)), work / 'student.pth')
    said = tool('compare.py', work, '--out', folder / 'report', '--no-latency')
    assert 'which a checkpoint may not' in said and not mark.exists(), said


def _through_batches(folder: Path, gadget: str) -> None:
    mark = folder / 'mark'
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        raw = pickle.dumps({b'data': GADGETS[gadget](mark), b'labels': [0]}, protocol)
        refusal(lambda raw=raw: load_batch(raw, 'data_batch_1'))
    assert not mark.exists()


def _batches_of_another_md5(folder: Path) -> None:
    batches = folder / 'cifar-10-batches-py'
    batches.mkdir()
    for name in CIFAR10.official.files:
        (batches / name).write_bytes(pickle.dumps(GADGETS['os.system'](folder / 'mark')))
    assert 'md5' in refusal(lambda: CIFAR10(folder)) and not (folder / 'mark').exists()


# ---- bombs ----------------------------------------------------------------------------------------------------------


def _bomb(folder: Path, write: Callable[[Path], None], place: str) -> None:
    if place != 'load_file':
        sound()
    write(folder / 'bomb.pth')
    with in_time():
        apart(lambda: refusal(lambda: PLACES[place](folder / 'bomb.pth')), GIGABYTE)


def _sparse_file(name: str, path: Path) -> None:
    """Write a file of 50 GB that takes no place on the disk."""
    with open(path, 'wb') as file:
        file.write(b'{"method": [' if name == 'json' else b'\x80\x02')
        file.truncate(50 << 30)


def _json(folder: Path, name: str) -> None:
    path = folder / 'result.json'
    texts = dict(
        nested='[' * 10**6, number='1' * 10**5, binary='\x00\x01', list='[1, 2]', constant='NaN', half='{"method": ',
        text='"x"', objects='{"a":' * 10**5, surrogate='{"method": "\\ud800"}',
    )  # fmt: skip
    if name in texts:
        path.write_text(texts[name])
    elif name == 'huge':
        _sparse_file('json', path)
    elif name == 'latin-1':
        path.write_bytes('{"method": "é"}'.encode('latin1'))
    else:
        PLACED[name](path)
    with in_time():
        apart(lambda: refusal(lambda: read_results([path])), GIGABYTE)


JSON = (
    'nested', 'number', 'binary', 'list', 'constant', 'half', 'text', 'objects', 'surrogate', 'huge', 'latin-1',
    'pipe', 'loop', 'nothing', 'folder', 'device',
)  # fmt: skip

# ---- damage ---------------------------------------------------------------------------------------------------------


def _cut(folder: Path, what: str, share: float, place: str) -> None:
    file = sound() / 'run' / 'student.pth' if what == 'student' else checkpoint()
    data = file.read_bytes()
    (folder / 'cut.pth').write_bytes(data[: min(len(data) - 1, int(share * len(data)))])
    line = refusal(lambda: PLACES[place](folder / 'cut.pth'))
    assert 'cut.pth' in line, line


def _swapped(folder: Path, what: str, place: str) -> None:
    run, file = sound() / 'run', folder / 'given.pth'
    if what in PLACED:
        PLACED[what](file)
    elif what == 'huge':
        _sparse_file('pth', file)
    elif what == 'absent':
        pass
    elif what == 'non-UTF8 name':
        file = Path(os.fsdecode(os.fsencode(folder) + b'/\xff\xfe.pth'))
        file.write_bytes(b'x')
    elif what == 'a very long name':
        file = folder / ('x' * 5000 + '.pth')
    elif what == 'a name with a zero':
        file = Path(f'{folder}/a\0b.pth')
    elif what == 'a line break in the name':
        file = folder / 'a\nb.pth'
        file.write_bytes(b'x')
    elif what == 'empty':
        file.touch()
    else:
        sources = {
            'a student': run / 'student.pth', 'a checkpoint': checkpoint(), 'JSON': run / 'result.json',
            'a config': run.parent / 'config.py',
        }  # fmt: skip
        if what in sources:
            shutil.copy(sources[what], file)
        else:
            contents = {
                'a number': 3, 'a list': [1, [2]], 'a tensor': torch.ones(3), 'None': None, 'an empty dict': {},
                'keys of numbers': {1: torch.ones(2)}, 'text': 'x' * 10**5,
                'nan': dict(state_dict=dict(w=float('nan'))),
                'names that clash': {'module.w': torch.ones(1), 'w': torch.zeros(1)},
            }  # fmt: skip
            torch.save(contents[what], file)
    with in_time():
        refusal(lambda: PLACES[place](file))


SWAPPED = (
    'pipe', 'loop', 'nothing', 'folder', 'device', 'huge', 'absent', 'non-UTF8 name', 'a very long name',
    'a name with a zero', 'a line break in the name', 'empty', 'JSON', 'a config', 'a number', 'a list', 'a tensor',
    'None', 'an empty dict', 'keys of numbers', 'text', 'nan', 'names that clash', 'a student', 'a checkpoint',
)  # fmt: skip
WELCOME = {  # (what, place) that is no mistake
    *(('a student', place) for place in ('load_student', 'a teacher that is a student file', 'tools/test.py')),
    *(('a student', place) for place in ('browse_filters --student', 'get_complexity', 'benchmark_latency')),
    *(('a checkpoint', place) for place in ('--resume CKPT', '--resume, the work dir', 'tools/test.py')),
    ('a checkpoint', 'tools/export_student.py'),
    *((what, 'load_file') for what in SWAPPED[14:]),
    ('attributes that hide methods', 'load_file'),  # it takes them away
    # mmengine takes what fits of a Pretrained file, and warns of the rest
    *((what, 'init_cfg Pretrained') for what in SWAPPED[14:]),
}


# ---- all of them ----------------------------------------------------------------------------------------------------

SEVERAL = ('os.system', 'getattr of os', 'in an object array', 'statistics of HistoryBuffer')
OTHERS = [place for place in PLACES if place != 'load_file']
BOMBS = {name: partial(write_bomb, name) for name in PICKLES} | {'a zip of 512 MB': write_zip_bomb}
CUT_AT = dict(student=('load_student', 'get_complexity'), checkpoint=('--resume CKPT', 'tools/test.py'))


def _attacks() -> Iterator[Attack]:
    yield Attack('a pickle read without care', _would_run, short=True)
    for gadget in GADGETS:
        make = partial(_hostile, gadget=gadget, forms=list(FORMS), place='load_file')
        yield Attack('a hostile pickle in every form of file', make, short=True)
    for i, gadget in enumerate(GADGETS):
        for k, place in enumerate(OTHERS):
            form = list(FORMS)[(i + k) % len(FORMS)]
            make = partial(_hostile, gadget=gadget, forms=[form], place=place)
            yield Attack(f'a hostile pickle through {place}', make, short=i == k)
        yield Attack('a hostile pickle in CIFAR batches', partial(_through_batches, gadget=gadget), short=i < 2)
        if gadget in SEVERAL:
            yield Attack('a hostile pickle through compare', partial(_through_compare, gadget=gadget), short=i == 0)
    yield Attack('CIFAR batches of another md5', _batches_of_another_md5, short=True)
    for name, write in BOMBS.items():
        for place in ('load_file', 'load_student', '--resume CKPT', 'teacher_ckpt'):
            if (name, place) in WELCOME:
                continue
            make = partial(_bomb, write=write, place=place)
            yield Attack(f'a bomb read by {place}', make, short=place == 'load_file')
    for name in JSON:
        yield Attack('a result.json that is none', partial(_json, name=name), short=name in ('nested', 'huge', 'pipe'))
    for what, places in CUT_AT.items():
        for place in places:
            for k in range(50):
                make = partial(_cut, what=what, share=k / 50, place=place)
                yield Attack(f'a {what} cut short, read by {place}', make, short=k % 17 == 3)
    for k, what in enumerate(SWAPPED):
        for m, place in enumerate(PLACES):
            if (what, place) not in WELCOME:
                make = partial(_swapped, what=what, place=place)
                yield Attack(f'something else, read by {place}', make, short=(k + m) % 25 == 0)


FILES = Family(
    'files',
    'Nothing in a file from a stranger runs or takes the memory, and what is wrong with it is told in one line.',
    [*_attacks(), *STUDENTS, *IMAGES],
)
