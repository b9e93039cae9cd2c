"""Reading official batches: only whole, verified, harmless files are taken."""

import dataclasses
import pickle
import pickletools

import numpy as np
import pytest

from mmrecast.datasets import CIFAR10
from mmrecast.datasets.official import load_batch, read_folder, read_tar


def _pickle(protocol: int = 4, **changes) -> bytes:
    batch = dict(data=np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072), labels=[3, 7])
    return pickle.dumps({**batch, **changes}, protocol=protocol)


class Code:
    """A pickle of this calls ``os.system``."""

    def __reduce__(self):
        import os

        return os.system, ('echo harm > /tmp/mmrecast_was_harmed',)


def test_the_stand_in_is_a_python_2_pickle(stand_in):
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(stand_in.files['test_batch'])}
    assert 'BINSTRING' in opcodes and not opcodes & {'BINUNICODE', 'SHORT_BINUNICODE', 'BINBYTES'}


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_python_3_pickles_read_alike(protocol):
    batch = load_batch(_pickle(protocol), 'batch')
    assert batch[b'labels'] == [3, 7]
    np.testing.assert_array_equal(batch[b'data'].ravel(), np.arange(2 * 3072) % 256)


def test_code_is_named_and_not_run(tmp_path):
    with pytest.raises(ValueError, match=r'batch refers to (posix|nt)\.system, which no CIFAR batch contains'):
        load_batch(_pickle(extra=Code()), 'batch')
    for content in (b'cbuiltins\neval\n(V1+1\ntR.', b'cnumpy\nload\n.', b'cfunctools\npartial\n.'):
        with pytest.raises(ValueError, match='which no CIFAR batch contains; it was not loaded'):
            load_batch(content, 'batch')
    with pytest.raises(ValueError, match="refers to _codecs.encode to 'rot13'"):
        load_batch(b'c_codecs\nencode\n(Vabc\nVrot13\ntR.', 'batch')


@pytest.mark.parametrize('content', [b'', b'no pickle', _pickle()[:-100]], ids=['empty', 'text', 'truncated'])
def test_damaged_pickle(content):
    with pytest.raises(ValueError, match=r'batch is not a readable pickle'):
        load_batch(content, 'batch')


def test_not_a_dict():
    with pytest.raises(ValueError, match='batch holds a list, expected a dict'):
        load_batch(pickle.dumps([1, 2]), 'batch')


@pytest.mark.parametrize(
    'changes',
    [
        dict(data=np.zeros((2, 3072))),
        dict(data=np.zeros((2, 1024), np.uint8)),
        dict(data=np.zeros((3, 3072), np.uint8)),
        dict(data=np.array(5, np.uint8)),
        dict(data=None),
        dict(labels=None),
        dict(labels=[1.0, 2.0]),
        dict(labels=[1]),
    ],
    ids=['float', 'small', 'too many', 'scalar', 'no images', 'no labels', 'float labels', 'too few labels'],
)
def test_a_pickle_that_is_no_batch(stand_in, tmp_path, changes):
    folder = stand_in.write_folder(tmp_path)
    (folder / 'test_batch').write_bytes(_pickle(**changes))
    archive = stand_in.with_md5({**stand_in.files, 'test_batch': _pickle(**changes)})
    with pytest.raises(
        ValueError, match=r"test_batch is not a CIFAR batch: expected uint8 'data' of shape \(N, 3072\)"
    ):
        read_folder(archive, folder, 'test')


def test_labels_outside_the_classes(stand_in, tmp_path, monkeypatch):
    content = _pickle(labels=[3, 10])
    (stand_in.write_folder(tmp_path) / 'test_batch').write_bytes(content)
    monkeypatch.setattr(CIFAR10, 'official', stand_in.with_md5({**stand_in.files, 'test_batch': content}))
    with pytest.raises(ValueError, match=r'CIFAR10: label 10 of sample 1 is outside the 10 classes \(1 such labels\)'):
        CIFAR10(tmp_path, 'test')


def test_a_changed_batch_is_refused(stand_in, tmp_path):
    folder = stand_in.write_folder(tmp_path)
    content = bytearray(stand_in.files['data_batch_2'])
    content[1000] ^= 1
    (folder / 'data_batch_2').write_bytes(content)
    expected = stand_in.archive.batches['train']['data_batch_2']
    with pytest.raises(ValueError, match=f'data_batch_2 has md5 [0-9a-f]{{32}}, expected {expected}: it is damaged'):
        CIFAR10(tmp_path)
    assert len(CIFAR10(tmp_path, 'test')) == 30


def test_a_damaged_tar(stand_in, tmp_path):
    path = stand_in.write_tar(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r'cifar-10-python.tar.gz has md5 .*: it is damaged .*, delete it'):
        CIFAR10(tmp_path)


def test_a_verified_tar_that_is_none(stand_in, tmp_path):
    path = tmp_path / 'some.tar.gz'
    path.write_bytes(b'')
    archive = dataclasses.replace(stand_in.archive, md5='d41d8cd98f00b204e9800998ecf8427e')
    with pytest.raises(ValueError, match=r'some.tar.gz is not a readable tar.gz'):
        read_tar(archive, path, 'train')


def test_a_tar_without_one_batch(stand_in, tmp_path):
    files = {name: content for name, content in stand_in.files.items() if name != 'data_batch_4'}
    path = tmp_path / 'some.tar.gz'
    path.write_bytes(stand_in.tar_bytes(files))
    archive = dataclasses.replace(stand_in.archive, md5=stand_in.md5(path.read_bytes()))
    with pytest.raises(FileNotFoundError, match='some.tar.gz lacks cifar-10-batches-py/data_batch_4'):
        read_tar(archive, path, 'train')
