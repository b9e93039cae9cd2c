"""Code in a checkpoint is refused and not run; numpy values come back through their stand-ins."""

import builtins
import copyreg
import os
import pickle
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmrecast.utils.checkpoint import load_file, save_file


class Calls:
    """Pickles as a call of ``function`` with ``args``: what a file with code in it holds."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class BuildsObjectArray:
    """Pickles as ``numpy.ndarray`` called on bytes that would be taken as addresses of objects."""

    def __reduce__(self):
        return np.ndarray, ((1,), 'O', b'\x01' * 8)


GADGETS = {
    'os.system': (lambda mark: Calls(os.system, f'touch {mark}'), r'holds (posix|nt)\.system'),
    'eval': (lambda mark: Calls(eval, f'open({str(mark)!r}, "w")'), r'holds builtins\.eval'),
    'exec': (lambda mark: Calls(exec, f'open({str(mark)!r}, "w")'), r'holds builtins\.exec'),
    'open': (lambda mark: Calls(open, str(mark), 'w'), r'holds \w*io\.open'),
    'getattr of a module': (
        lambda mark: Calls(getattr, OrderedDict, 'fromkeys'),
        r'builtins\.getattr\(OrderedDict, ',
    ),
    'getattr beyond four names': (
        lambda mark: Calls(getattr, HistoryBuffer, '__init__'),
        r'builtins\.getattr\(HistoryBuffer, .__init__.\)',
    ),
    'getattr of an instance': (
        lambda mark: Calls(getattr, Calls(HistoryBuffer), 'register_statistics'),
        r'builtins\.getattr\(HistoryBuffer, .register_statistics.\)',
    ),
    'import': (lambda mark: Calls(builtins.__import__, 'os'), r'holds builtins\.__import__'),
    'numpy.load': (lambda mark: Calls(np.load, str(mark), None, True), r'holds numpy\.load'),
    'torch.load': (
        lambda mark: Calls(torch.load, str(mark), None, None),
        r'holds torch\.serialization\.load',
    ),
    'ndarray': (lambda mark: BuildsObjectArray(), r'holds numpy\.ndarray\(\)'),
    'dtype of objects': (lambda mark: np.array([None]), r"holds numpy\.dtype\('O8'\)"),
    'any class': (lambda mark: random.Random(0), r'holds random\.Random'),
    'copyreg': (
        lambda mark: Calls(copyreg._reconstructor, object, object, None),
        r'holds copyreg\._reconstructor',
    ),
}


@pytest.mark.parametrize('name', GADGETS)
@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle2', 'pickle'])
def test_code_is_refused_and_not_run(name, form, tmp_path, monkeypatch):
    make, message = GADGETS[name]
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    content = {'state_dict': {'w': torch.ones(2)}, 'x': make(mark)}
    if form in ('zip', 'legacy'):
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    else:
        del content['state_dict']
        path.write_bytes(pickle.dumps(content, protocol=2 if form == 'pickle2' else pickle.DEFAULT_PROTOCOL))
        if name not in ('os.system', 'eval', 'numpy.load', 'any class'):
            message = r'holds|is not a readable checkpoint'  # refused before its calls are looked at
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(ValueError, match=message) as caught:
        load_file(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not mark.exists()


def test_gadget_would_have_run(tmp_path):
    mark = tmp_path / 'ran'
    pickle.loads(pickle.dumps(GADGETS['os.system'][0](mark)))
    assert mark.exists()


def test_stand_ins_cannot_be_reached_by_their_own_names(tmp_path):
    path = tmp_path / 'own.pth'
    torch.save({'x': Calls(load_file, str(path))}, path)
    with pytest.raises(ValueError, match=r'holds mmrecast\.utils\.checkpoint\.load_file'):
        load_file(path)


def test_a_file_cannot_change_the_statistics_of_every_buffer(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    state = {'statistics_methods': {'mean': OrderedDict, 'mine': OrderedDict}, '_log_history': 3}

    class Hostile:
        def __reduce__(self):
            return HistoryBuffer, (), state

    torch.save({'x': Hostile()}, tmp_path / 'buffer.pth')
    load_file(tmp_path / 'buffer.pth')
    assert set(HistoryBuffer._statistics_methods) == {'min', 'max', 'current', 'mean'}
    assert buffer.statistics('mean') == 1.5


def test_what_was_allowed_elsewhere_does_not_count_and_stays(tmp_path):
    path = tmp_path / 'random.pth'
    torch.save({'x': Calls(getattr, OrderedDict, 'fromkeys')}, path)
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([getattr])
    try:
        with pytest.raises(ValueError, match=r'builtins\.getattr'):
            load_file(path)
        assert set(torch.serialization.get_safe_globals()) == {*before, getattr}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(list(before))


def test_numpy_values_come_back(tmp_path):
    values = {
        'matrix': np.arange(6.0).reshape(2, 3).T,
        'big-endian': np.arange(3, dtype='>i4'),
        'empty': np.zeros((0, 3), np.uint8),
        'text': np.array(['ab', 'c']),
        'number': np.float32(2.5),
        'bool': np.bool_(True),
    }
    save_file({'nested': [values], 'tuple': (np.int64(7), np.ones(2))}, tmp_path / 'numpy.pth')
    loaded = load_file(tmp_path / 'numpy.pth')
    for name, expected in values.items():
        got = loaded['nested'][0][name]
        assert type(got) is type(expected), name
        assert got.dtype == expected.dtype, name
        np.testing.assert_array_equal(got, expected)
    assert loaded['tuple'][0] == 7
    np.testing.assert_array_equal(loaded['tuple'][1], [1.0, 1.0])
    assert loaded['nested'][0]['matrix'].flags.writeable
