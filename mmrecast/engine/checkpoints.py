"""Checkpoints of staged runs: which one is the latest, what it must hold, and the random state that goes with it."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmrecast.engine.scheduled import restore_scheduled
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import is_student
from mmrecast.utils.checkpoint import load_file

LAST = 'last_checkpoint'


def read_checkpoint(filename: str) -> dict:
    """Read a checkpoint of a staged run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not readable, or something else than a checkpoint of a staged run.
    """
    content = load_file(filename)
    if isinstance(content, dict) and {'staged', 'fingerprint', 'state_dict'} <= set(content):
        return content
    what = 'a student, without the state of its training' if is_student(content) else 'no checkpoint of a staged run'
    raise ValueError(f"{filename} is {what}: give a stage*_iter*.pth of a work dir; weights go to the model's config")


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
    named = Path(note.read_text().strip())
    path = Path(work_dir) / named.name  # the work dir may have moved
    if not path.is_file():
        raise ValueError(f'nothing to resume: {note} names {named.name}, which is not there')
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
