"""What the command lines share."""

import argparse
from types import SimpleNamespace

import pytest
from mmengine.model import BaseModel

from mmrecast.algorithms import Distiller
from mmrecast.utils.cli import KeyValues, told_in_one_line


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('two\n  lines'), 'error: two lines\n'),
        (KeyError("no 'that'"), "error: no 'that'\n"),
        (FileNotFoundError(2, 'No such file', 'x.pth'), "error: [Errno 2] No such file: 'x.pth'\n"),
        (RuntimeError('odd'), 'error: odd (MMRECAST_DEBUG=1 shows where)\n'),
        (AssertionError(), 'error: AssertionError (MMRECAST_DEBUG=1 shows where)\n'),
    ],
)
def test_a_mistake_ends_the_program_with_one_line(capsys, monkeypatch, error, line):
    monkeypatch.delenv('MMRECAST_DEBUG', raising=False)
    with pytest.raises(SystemExit) as caught, told_in_one_line():
        raise error
    assert (caught.value.code, *capsys.readouterr()) == (2, '', line)


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv('MMRECAST_DEBUG', '1')
    with pytest.raises(ValueError, match='wrong'), told_in_one_line():
        raise ValueError('wrong')


def test_a_broken_invariant_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError, match='must define loss'), told_in_one_line():
        Distiller.loss(SimpleNamespace(), None, None)
    with pytest.raises(SystemExit), told_in_one_line():
        BaseModel.__init__(SimpleNamespace(), data_preprocessor=3)


def test_options_are_keys_with_values(capsys):
    parser = argparse.ArgumentParser(prog='train.py')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues)
    assert parser.parse_args(['--cfg-options', 'a.b=3', 'c=[1,2]']).cfg_options == {'a.b': 3, 'c': [1, 2]}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a.b', '3'])
    assert capsys.readouterr().err.endswith("train.py: error: --cfg-options: key=value expected, got 'a.b'\n")
