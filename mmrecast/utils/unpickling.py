"""What a checkpoint may hold besides tensors, and stand-ins that rebuild it and can do nothing else.

The names that pickles import are resolved to the classes here. numpy's own constructors are not among them:
given bytes from a file, ``numpy.ndarray`` makes arrays of objects at any address.
"""

import io
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO

import numpy as np
from mmengine.logging import HistoryBuffer

_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'

ALLOWED: dict[str, type] = {'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer}
"""dict[str, type]: What each name in a pickle stands for; torch looks them up by their module and name."""


def _stands_for(*paths: str) -> Callable[[type], type]:
    """Register a class for the names in a pickle: one subclass each, named as torch's allow-list wants."""

    def register(cls: type) -> type:
        for path in paths:
            module, _, name = path.rpartition('.')
            ALLOWED[path] = type(name, (cls,), {'__module__': module, '__qualname__': name})
        return cls

    return register


@_stands_for('numpy.ndarray', _ONE_CYCLE)
class _Named:
    """A class that files name as an argument of something else; it makes no objects."""

    def __new__(cls, *args) -> None:
        raise UnpicklingError(f'GLOBAL {cls.__module__}.{cls.__name__}()')


class Dropped:
    """The annealing function of a one-cycle scheduler, which a scheduler has from its construction."""


@_stands_for('builtins.getattr')
class _Getattr:
    """``getattr`` for the methods that ``HistoryBuffer`` and the one-cycle scheduler store."""

    def __new__(cls, owner: object, name: str) -> object:
        if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
            return getattr(HistoryBuffer, name)
        if owner is ALLOWED[_ONE_CYCLE] and name in ('_annealing_cos', '_annealing_linear'):
            return Dropped
        kind = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise UnpicklingError(f'GLOBAL builtins.getattr({kind}, {name if isinstance(name, str) else "?"!r})')


@_stands_for('builtins.bytes')
class _NoBytes:
    """``bytes()``, the form in which pickles hold the data of an empty array."""

    def __new__(cls) -> bytes:
        return b''


@_stands_for('numpy.dtype')
class _Dtype:
    """A dtype of numbers or text; what else the file says of it than its byte order is left aside."""

    def __init__(self, code: str | bytes, *flags) -> None:
        code = code.decode('latin1') if isinstance(code, bytes) else code  # as Python 2 has written it
        if not isinstance(code, str) or not re.fullmatch(r'[biufcSU]\d+', code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code!r})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode('latin1') if isinstance(state[1], bytes) else state[1]
        if order in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(order)


@_stands_for('numpy._core.multiarray.scalar', 'numpy.core.multiarray.scalar')
class _Scalar:
    """A numpy number, from its dtype and its bytes."""

    def __new__(cls, dtype: _Dtype, data: bytes) -> np.generic:
        return np.frombuffer(data, dtype.dtype, count=1)[0]


@_stands_for('numpy._core.multiarray._reconstruct', 'numpy.core.multiarray._reconstruct')
class Array:
    """A numpy array, from its shape, dtype and bytes; ``utils.settling.settle`` puts the array in its place."""

    def __init__(self, *args) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.array = np.ndarray(shape, dtype.dtype, data, order='F' if fortran else 'C').copy()


def is_archive(path: Path) -> bool:
    """Tell whether torch reads a file as an archive: it goes by the first bytes, where zipfile goes by the last."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def imported_names(path: Path) -> list[str]:
    """Return the names that the pickles of a checkpoint import, in order, without running them.

    Args:
        path (Path): A file of ``torch.save`` in any of its formats, or a bare pickle of any protocol.
    """
    if not is_archive(path):
        with open(path, 'rb') as file:
            return _scan(file)
    found: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.lower().endswith('data.pkl'):  # torch does not mind the case
                    found += _scan(io.BytesIO(archive.read(entry)))
    except Exception:  # a damaged archive may raise anything
        pass
    return found


def _scan(file: BinaryIO) -> list[str]:
    names: list[str] = []
    strings: list[str] = []  # every string met: the last two are what STACK_GLOBAL takes
    memo: dict[int, str] = {}
    try:
        while True:  # the oldest format of torch is several pickles in a row
            for op, arg, _ in pickletools.genops(file):
                if op.name in ('GLOBAL', 'INST'):
                    module, name = arg.split(' ', 1)  # by protocol 2, under its name of Python 2
                    names.append('.'.join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))))
                elif op.name == 'STACK_GLOBAL':
                    names.append('.'.join(strings[-2:]))
                elif op.name == 'MEMOIZE':
                    memo[len(memo)] = strings[-1] if strings else ''
                elif op.name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
                    memo[arg] = strings[-1] if strings else ''
                elif op.name in ('GET', 'BINGET', 'LONG_BINGET'):
                    strings.append(memo.get(arg, ''))
                elif isinstance(arg, str):
                    strings.append(arg)
    except Exception:  # the end of the file, or of what is a pickle in it
        return names
