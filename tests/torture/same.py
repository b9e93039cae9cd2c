"""Whether two runs ended alike, bit for bit: in every file they leave, but for clocks and names."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmrecast.utils.checkpoint import load_file

CLOCKS = {'seconds', 'time', 'data_time', 'iter_time', 'eta'}
OTHERS = {'name', 'experiment_name', 'cfg', 'config', 'checkpoint', 'mmengine_version', 'digest'}
"""set[str]: Last parts of the names of what else may differ: the run's own name, paths and its config, a text with
them; a version that mmengine writes with the commit of whatever repository the run was started in; and the digest of a
block, whose seconds are in it."""


def parts(value: object, path: str = '') -> Iterator[tuple[str, object]]:
    """Yield the numbers, tensors and strings of nested containers under their paths."""
    if isinstance(value, HistoryBuffer):
        value = dict(zip(('values', 'counts'), value.data, strict=True))
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key).rpartition('/')[2] not in CLOCKS | OTHERS:
                yield from parts(inner, f'{path}.{key}')
        yield f'{path}.keys', sorted(str(key) for key in value)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from parts(inner, f'{path}[{index}]')
        yield f'{path}.length', len(value)
    else:
        yield path, value


def alike(one: object, other: object) -> bool:
    """Tell whether two values have the same bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


def different(one: object, other: object) -> list[str]:
    """Return the paths under which two nested containers differ."""
    ours, theirs = dict(parts(one)), dict(parts(other))
    absent = object()
    paths = dict.fromkeys((*ours, *theirs))
    return [path for path in paths if not alike(ours.get(path, absent), theirs.get(path, absent))]


def files(work_dir: Path) -> dict[str, Path]:
    """Return the files that a run leaves, without the folders of its logs."""
    found = (path for path in work_dir.rglob('*') if path.is_file())
    named = {path.relative_to(work_dir).as_posix(): path for path in found}
    return {name: path for name, path in named.items() if not re.match(r'\d{8}_\d{6}/', name)}


def content(path: Path) -> object:
    """Return what a file of a run holds."""
    if path.suffix == '.pth':
        return load_file(path)
    if path.suffix == '.json':
        return json.loads(path.read_text())
    return Path(path.read_text().strip()).name if path.name == 'last_checkpoint' else path.suffix


def assert_alike(work_dir: Path, whole: Path) -> None:
    """Assert that a run ended as another did: the same files, whole, and the same bits in them."""
    ours, theirs = files(work_dir), files(whole)
    assert ours.keys() == theirs.keys(), f'files: {sorted({*ours} ^ {*theirs})}'
    for name, path in ours.items():
        wrong = different(content(path), content(theirs[name]))
        assert not wrong, f'{name}: {len(wrong)} parts differ, first {wrong[:5]}'
