"""Checkpoints of staged runs: which one is the latest, what it must hold, and the random state that goes with it."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmrecast.engine.scheduled import restore_scheduled
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import is_student
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.mistakes import explain
from mmrecast.utils.plain import is_plain

LAST = 'last_checkpoint'
DAMAGE = (
    LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, AssertionError, StopIteration,
)  # fmt: skip


def read_checkpoint(filename: str) -> dict:
    """Read a checkpoint of a staged run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not readable, or something else than a checkpoint of a staged run.
    """
    content = load_file(filename)
    if isinstance(content, dict) and {'staged', 'fingerprint', 'state_dict'} <= set(content):
        _check_form(content, filename)
        return content
    what = 'a student, without the state of its training' if is_student(content) else 'no checkpoint of a staged run'
    raise ValueError(f"{filename} is {what}: give a stage*_iter*.pth of a work dir; weights go to the model's config")


def _check_form(content: dict, filename: str) -> None:
    """Refuse a checkpoint in whose parts anything else stands than a run writes.

    Raises:
        ValueError: The message names the part.
    """
    staged, state = content['staged'], content['state_dict']
    numbers = ('epoch', 'iter', 'stage_epoch', 'stage_iter', 'batch', 'stage')
    forms = dict(
        staged=isinstance(staged, dict)
        and all(type(staged.get(name)) is int and staged[name] >= 0 for name in numbers)
        and isinstance(staged.get('started'), bool)
        and all(isinstance(staged.get(name), list) for name in ('schedule', 'history'))
        and all(isinstance(s, dict) and {'kind', 'block', 'iters'} <= s.keys() for s in staged['schedule'])
        and staged['stage'] <= len(staged['schedule']),
        fingerprint=isinstance(content['fingerprint'], dict) and is_plain(content['fingerprint']),
        state_dict=isinstance(state, dict)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()),
        structure=isinstance(content.get('structure'), dict | None),
        random=isinstance(content.get('random', []), list),
        message_hub=isinstance(content.get('message_hub', {}), dict),
        scheduled=isinstance(content.get('scheduled', {}), dict),
    )
    wrong = [name for name, good in forms.items() if not good]
    if wrong:
        raise ValueError(f'{filename} is damaged: {", ".join(wrong)} of it is not what a run writes; give an older one')


@contextmanager
def restoring(filename: str = 'the checkpoint') -> Iterator[None]:
    """Turn whatever damaged parts of a checkpoint raise inside into one line.

    Raises:
        ValueError: Something in it is not what a run writes.
    """
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f'{filename} is damaged: {type(error).__name__}: {explain(error)}') from error


def load_student_state(model: nn.Module, content: dict, filename: str) -> None:
    """Bring an algorithm's student into the form of a checkpoint and load it strictly.

    Raises:
        ValueError: The checkpoint belongs to another algorithm, recipe or network.
    """
    staged, theirs, ours = content['staged'], content['fingerprint'], model.fingerprint()
    different = sorted(key for key, value in ours.items() if theirs.get(key) != value)
    if different:
        raise ValueError(f'{filename} was written with another {", ".join(different)} than the config has')
    structure = content.get('structure') or {}
    with restoring(filename):
        model.restore_structure(staged_stages(staged), staged['stage'], staged['started'], structure)
        load_strictly(model, content['state_dict'], filename)
        restore_scheduled(model, content)


def staged_stages(staged: dict) -> list:
    """Return the stages a checkpoint went through."""
    return [Stage(kind=s['kind'], block=s['block'], iters=s['iters']) for s in staged['schedule']]


def load_strictly(model: nn.Module, state_dict: dict, filename: str) -> None:
    """Load a state dict of an algorithm.

    Raises:
        ValueError: A key is missing, unexpected or of another shape.
    """
    try:
        model.load_state_dict(state_dict, strict=True)
    except RuntimeError as error:
        raise ValueError(f'{filename} does not fit: {" ".join(str(error).split())[:400]}') from error


def latest_checkpoint(work_dir: str) -> str:
    """Return the checkpoint a run in ``work_dir`` would resume from.

    Raises:
        ValueError: There is none.
    """
    note = Path(work_dir) / LAST
    if not note.is_file():
        raise ValueError(f'nothing to resume in {work_dir}: it holds no {LAST}; leave --resume out to start')
    with open(note, 'rb') as file:
        named = Path(file.read(4096).decode(errors='replace').strip().replace('\0', '?'))
    path = Path(work_dir) / named.name  # the work dir may have moved
    if not os.path.isfile(path):  # False for a name that no file can have
        raise ValueError(f'nothing to resume: {note} names {named.name[:100]}, which is not there')
    return str(path)


def without_processes(fingerprint: dict) -> dict:
    """Return a run's fingerprint without what follows from the number of its processes, such as batches per epoch."""
    data = {key: value for key, value in (fingerprint.get('data') or {}).items() if key != 'batches'}
    return {key: value for key, value in fingerprint.items() if key != 'schedule'} | dict(data=data)


def random_state() -> dict:
    """Return the state of every random generator of this process."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state = dict(torch=torch.get_rng_state(), python=[version, list(internal), gauss_next])
    state['numpy'] = [
        kind,
        torch.from_numpy(keys.astype(np.int64)),
        int(position),
        int(has_gauss),
        float(gauss),
    ]
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def seed_everything(seed: int) -> None:
    """Bring the random generators of this process to a state that ``seed``, from 0 to 2³² − 1, decides on."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def set_random_state(state: dict) -> None:
    """Bring the random generators of this process back to ``state``."""
    torch.set_rng_state(state['torch'])
    version, internal, gauss_next = state['python']
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
