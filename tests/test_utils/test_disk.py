"""What is said of a file that cannot be written; tests/torture/disk.py has disks that fail."""

import errno
import os
from pathlib import Path

import pytest
import torch

from mmrecast.utils import disk
from mmrecast.utils.checkpoint import load_file, save_file, write_json, write_text
from mmrecast.utils.disk import DiskError, NotingFile, cannot_write


def failing(monkeypatch, number: int):
    """Let every write fail with an error of this number."""

    def write(self, data):
        self.error = OSError(number, os.strerror(number))
        raise self.error

    monkeypatch.setattr(NotingFile, 'write', write)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, number):
    """torch.save would say 'unexpected pos 64 vs 0'; what stood there before is whole, and nothing is left over."""
    path = tmp_path / 'weights.pth'
    save_file(dict(a=torch.ones(3)), path)
    monkeypatch.setattr(disk.shutil, 'disk_usage', lambda folder: type('Usage', (), dict(free=3 * 2**19)))
    with monkeypatch.context() as patch:
        failing(patch, number)
        with pytest.raises(DiskError) as found:
            save_file(dict(a=torch.zeros(2**18)), path)
    assert str(found.value).startswith(f'{path} cannot be written: {os.strerror(number)}; it takes 1 MiB, 1.5 MiB are')
    assert 'make room there' in str(found.value) and found.value.errno == number
    assert torch.equal(load_file(path)['a'], torch.ones(3)) and os.listdir(tmp_path) == ['weights.pth']


@pytest.mark.parametrize(
    ('number', 'advice'),
    [
        (errno.EROFS, 'have it mounted for writing'), (errno.EACCES, 'have the permission given'),
        (errno.EFBIG, 'ulimit -f'), (errno.EIO, 'Input/output error; write elsewhere'),
    ],
)  # fmt: skip
def test_other_errors(tmp_path, monkeypatch, number, advice):
    failing(monkeypatch, number)
    with pytest.raises(DiskError, match=advice):
        write_json([1], tmp_path / 'a.json')
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / 'a').write_text('')
    with pytest.raises(DiskError, match='what should be its folder is a file'):
        write_text('', tmp_path / 'a' / 'b')


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(tmp_path):
    with pytest.raises((AttributeError, TypeError)) as found:
        save_file(dict(a=lambda: 0), tmp_path / 'a.pth')
    assert not isinstance(found.value, OSError) and not list(tmp_path.iterdir())


def test_without_a_size():
    said = str(cannot_write(Path('/nowhere/at/all'), OSError(errno.ENOSPC, 'No space left on device')))
    assert said.startswith('/nowhere/at/all cannot be written: No space left on device, ') and 'takes' not in said
