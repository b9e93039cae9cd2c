"""Files that would run something, or take the machine's memory, if they were read with less care."""

import builtins
import codecs
import copyreg
import ctypes
import functools
import importlib
import io
import marshal
import operator
import os
import pickle
import pty
import shutil
import struct
import subprocess
import tarfile
import timeit
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmrecast.utils.checkpoint import load_file


class Calls:
    """Pickles as a call of ``function`` with ``args``, and maybe a state for what that gives."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple:
        return self.call

    def __call__(self) -> None:
        """Stand where pickle wants a function: what the call gives is called."""


class StorageOf:
    """Pickles as a tensor in whose storage stands ``value``."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple:
        return torch._utils._rebuild_tensor_v2, (self.value, 0, (1,), (1,), False, OrderedDict())


def _object_array(value: Any) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = value
    return array


def _touch(mark: Path) -> Calls:
    return Calls(os.system, f'touch {mark}')


GADGETS: dict[str, Callable[[Path], Any]] = {
    'os.system': _touch,
    'subprocess': lambda mark: Calls(subprocess.check_output, ['touch', str(mark)]),
    'Popen': lambda mark: Calls(subprocess.Popen, ['touch', str(mark)]),
    'pty.spawn': lambda mark: Calls(pty.spawn, ['touch', str(mark)]),
    'eval': lambda mark: Calls(eval, f'open({str(mark)!r}, "w")'),
    'exec': lambda mark: Calls(exec, f'open({str(mark)!r}, "w")'),
    'open': lambda mark: Calls(open, str(mark), 'w'),
    'import': lambda mark: Calls(builtins.__import__, 'antigravity'),
    'importlib': lambda mark: Calls(importlib.import_module, 'this'),
    'getattr of os': lambda mark: Calls(Calls(getattr, os_module(), 'system'), f'touch {mark}'),
    'attrgetter': lambda mark: Calls(operator.attrgetter('system'), os_module()),
    'methodcaller': lambda mark: Calls(operator.methodcaller('system', f'touch {mark}'), os_module()),
    'partial': lambda mark: Calls(functools.partial(os.system, f'touch {mark}')),
    'timeit': lambda mark: Calls(timeit.timeit, f'open({str(mark)!r}, "w")'),
    'runpy': lambda mark: Calls(importlib.import_module('runpy').run_path, str(mark)),
    'ctypes': lambda mark: Calls(ctypes.CDLL, str(mark)),
    'torch.load': lambda mark: Calls(torch.load, str(mark), None, None),
    'torch.hub': lambda mark: Calls(torch.hub.load, str(mark), 'model', 'local'),
    'torch.jit': lambda mark: Calls(torch.jit.load, str(mark)),
    'numpy.load': lambda mark: Calls(np.load, str(mark), None, True),
    'numpy.ndarray at an address': lambda mark: Calls(np.ndarray, (1,), 'O', b'\x01' * 8),
    'copyreg': lambda mark: Calls(copyreg._reconstructor, object, object, None),
    'codecs': lambda mark: Calls(codecs.lookup, 'rot13'),
    'rmtree': lambda mark: Calls(shutil.rmtree, str(mark)),
    'in an object array': lambda mark: _object_array(_touch(mark)),
    'in a storage': lambda mark: StorageOf(_touch(mark)),
    'in an OrderedDict': lambda mark: OrderedDict(weight=OrderedDict(value=_touch(mark))),
    'as a key': lambda mark: {('a', KeyOf(mark)): 1},
    'in a state': lambda mark: Calls(OrderedDict, state=dict(_metadata=_touch(mark))),
    'statistics of HistoryBuffer': lambda mark: Calls(
        HistoryBuffer, state=dict(_statistics_methods=dict(mean=_touch(mark)))
    ),
    'function of HistoryBuffer': lambda mark: Calls(
        Calls(getattr, HistoryBuffer, 'register_statistics'), _touch(mark)
    ),
    'a class and its bases': lambda mark: Calls(type, 'Evil', (object,), dict(x=_touch(mark))),
    'marshal': lambda mark: Calls(marshal.loads, marshal.dumps(compile(f'open({str(mark)!r}, "w")', '', 'exec'))),
    'our own reader': lambda mark: Calls(load_file, str(mark)),
}  # fmt: skip


class KeyOf:
    """A key of a dict that pickles as a call."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.mark}',)


class os_module:  # noqa: N801  (pickles as the import of a module)
    """Pickles as the module ``os``."""

    def __reduce__(self) -> tuple:
        return importlib.import_module, ('os',)


# ---- forms of file --------------------------------------------------------------------------------------------------


def as_zip(content: Any, path: Path) -> None:
    """Write ``content`` as torch.save does."""
    torch.save(content, path)


def as_legacy(content: Any, path: Path) -> None:
    """Write it as torch.save did before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(content: Any, path: Path) -> None:
    """Write it as a bare pickle."""
    path.write_bytes(pickle.dumps(without_tensors(content), protocol=2))


def as_new_pickle(content: Any, path: Path) -> None:
    """Write it as a bare pickle of the newest protocol."""
    path.write_bytes(pickle.dumps(without_tensors(content)))


def as_tar(content: Any, path: Path) -> None:
    """Write it as torch.save did before 0.1.10."""
    with tarfile.open(path, 'w') as tar:
        for name, data in (('storages', 0), ('tensors', 0), ('pickle', without_tensors(content))):
            raw = pickle.dumps(data, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def as_jit(content: Any, path: Path) -> None:
    """Write it as an archive of TorchScript, whose code would be compiled."""
    raw = pickle.dumps(without_tensors(content), protocol=2)
    entries = {'constants.pkl': raw, 'data.pkl': raw, 'code/__torch__.py': b'import os\n', 'version': b'3\n'}
    _zip(path, {f'a/{name}': data for name, data in entries.items()})


def as_twins(content: Any, path: Path) -> None:
    """Write a zip with paths that lead out of it, and two entries of one name, of which the second is the hostile."""
    entries = io.BytesIO()
    torch.save(dict(state_dict=dict(w=torch.ones(1))), entries)
    with zipfile.ZipFile(entries) as archive:
        sound = {info.filename: archive.read(info) for info in archive.infolist()}
    folder = next(iter(sound)).split('/')[0]
    raw = pickle.dumps(without_tensors(content), protocol=2)
    with zipfile.ZipFile(path, 'w') as archive, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the name that is there twice
        for name, data in [*sound.items(), ('../../escaped.pkl', raw), (f'{folder}/data.pkl', raw)]:
            archive.writestr(name, data)


FORMS = dict(
    zip=as_zip, legacy=as_legacy, pickle=as_pickle, newest=as_new_pickle, tar=as_tar, jit=as_jit, twins=as_twins
)


def without_tensors(content: Any) -> Any:
    """Return ``content`` with numbers for its tensors, which a bare pickle could not hold."""
    if isinstance(content, torch.Tensor):
        return 0
    if type(content) is dict:
        return {key: without_tensors(value) for key, value in content.items()}
    return content


def _zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


# ---- bombs ----------------------------------------------------------------------------------------------------------


def _name(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def _text(text: str) -> bytes:
    return b'X' + struct.pack('<I', len(text)) + text.encode()


def _whole(number: int) -> bytes:
    raw = pickle.encode_long(number)
    return b'\x8a' + bytes([len(raw)]) + raw


def _tuple(*items: bytes) -> bytes:
    return b'(' + b''.join(items) + b't'


def _tensor(size: int, stride: int, numbers: int) -> bytes:
    storage = _tuple(_text('storage'), _name('torch', 'FloatStorage'), _text('0'), _text('cpu'), _whole(numbers)) + b'Q'
    hooks = _name('collections', 'OrderedDict') + b')R'
    shape = _tuple(_whole(size)), _tuple(_whole(stride))
    return _name('torch._utils', '_rebuild_tensor_v2') + _tuple(storage, _whole(0), *shape, b'\x89', hooks) + b'R'


def _call(module: str, name: str, *args: bytes) -> bytes:
    return _name(module, name) + _tuple(*args) + b'R'


def _laughs(levels: int) -> bytes:
    doubled = (bytes([93, 40, 104, k, 104, k, 101, 113, k + 1]) for k in range(levels))  # ](h h eq: [last, last]
    return b']q\x00' + b''.join(doubled)


HUGE = 10**12
PICKLES: dict[str, bytes] = {  # what stands in the data.pkl of an archive with four bytes of data
    'a tensor of 10^12 numbers': _tensor(HUGE, 1, HUGE),
    'a tensor larger than its storage': _tensor(HUGE, 1, 1),
    'a number expanded 10^12 times': _tensor(HUGE, 0, 1),
    'a tensor of negative size': _tensor(-5, 1, 1),
    'a tensor without values': _call(
        'torch._utils', '_rebuild_meta_tensor_no_storage', _name('torch', 'float32'), _tuple(_whole(HUGE)),
        _tuple(_whole(1)), b'\x89',
    ),
    'a bytearray of 16 GB': _call('builtins', 'bytearray', _whole(16 << 30)),
    'a storage of 10^13 bytes': _call('torch.storage', 'UntypedStorage', _whole(10**13)),
    'an empty tensor of 10^9 numbers': _call('torch', 'FloatTensor', _whole(10**9)),
    'a list of lists of lists': _laughs(60),
    'a list in itself': b']q\x00h\x00a',
    '5000 lists in one another': b']' * 5000 + b'a' * 4999,
    '10^5 tuples in one another': b')' + b'\x85' * 10**5,
    'a text 10^5 times': b'](' + _text('x' * 10**5) + b'q\x01' + b'h\x01' * 10**5 + b'e',
    'a sparse tensor': _call(
        'torch._utils', '_rebuild_sparse_tensor',
        _call('torch.serialization', '_get_layout', _text('torch.sparse_coo')),
        _tuple(_tensor(0, 1, 1), _tensor(0, 1, 1), _tuple(_whole(HUGE))),
    ),
    'a memo that is not there': b'h\x05',
    'attributes that hide methods': _name('collections', 'OrderedDict') + b')R}' + _text('items') + _whole(3) + b'sb',
}  # fmt: skip


def write_bomb(name: str, path: Path) -> None:
    """Write one of ``PICKLES``."""
    entries = {'data.pkl': b'\x80\x02' + PICKLES[name] + b'.', 'byteorder': b'little', 'version': b'3\n'}
    _zip(path, {f'a/{key}': data for key, data in (entries | {'data/0': bytes(4)}).items()})


def write_zip_bomb(path: Path) -> None:
    """Write a compressed archive of two MB with a tensor of 512 MB."""
    entries = {'a/data.pkl': b'\x80\x02' + _tensor(1 << 27, 1, 1 << 27) + b'.', 'a/version': b'3\n'}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        with archive.open('a/data/0', 'w', force_zip64=True) as file:
            for _ in range(512):
                file.write(bytes(1 << 20))
