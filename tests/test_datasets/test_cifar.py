"""CIFAR in its three forms, and what is said when it is not there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmrecast.datasets import CIFAR10, CIFAR100

SPLITS = ('train', 'test')


def test_the_public_md5_sums_and_addresses():
    site = 'https://www.cs.toronto.edu/~kriz'
    for cls, name, md5, train in (
        (CIFAR10, 'cifar-10-python.tar.gz', 'c58f30108f718f92721af3b95e74349a', 5),
        (CIFAR100, 'cifar-100-python.tar.gz', 'eb9058c3a382ffc7106e4002c42a8d85', 1),
    ):
        assert (cls.official.url, cls.official.filename, cls.official.md5) == (f'{site}/{name}', name, md5)
        assert [len(cls.official.batches[split]) for split in SPLITS] == [train, 1]


@pytest.mark.parametrize('cls', [CIFAR10, CIFAR100])
def test_official_values_are_those_of_torchvision(cls):
    vision = getattr(pytest.importorskip('torchvision.datasets'), cls.__name__)
    assert (cls.official.url, cls.official.md5) == (vision.url, vision.tgz_md5)
    assert cls.official.folder == vision.base_folder
    assert list(cls.official.batches['train'].items()) == [tuple(pair) for pair in vision.train_list]
    assert list(cls.official.batches['test'].items()) == [tuple(pair) for pair in vision.test_list]


def test_classes_are_in_the_usual_order():
    from mmpretrain.datasets.categories import CIFAR10_CATEGORIES, CIFAR100_CATEGORIES

    assert CIFAR10.classes == tuple(CIFAR10_CATEGORIES)
    assert CIFAR100.classes == tuple(CIFAR100_CATEGORIES) == tuple(sorted(CIFAR100.classes))


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('form', ['folder', 'folder itself', 'tar'])
def test_official_forms_give_what_was_written(any_stand_in, tmp_path, form, split):
    cls = any_stand_in.cls
    where = any_stand_in.write_tar(tmp_path) if form == 'tar' else any_stand_in.write_folder(tmp_path)
    dataset = cls(where if form == 'folder itself' else tmp_path, split)
    np.testing.assert_array_equal(dataset.images.numpy(), any_stand_in.images[split])
    np.testing.assert_array_equal(dataset.labels.numpy(), any_stand_in.labels[split])
    assert dataset.metainfo == dict(classes=cls.classes)


@pytest.mark.parametrize('split', SPLITS)
def test_tree_gives_the_same_as_the_official_batches(any_stand_in, tmp_path, split):
    any_stand_in.write_folder(tmp_path / 'official')
    any_stand_in.write_tree(tmp_path / 'tree')
    official = any_stand_in.cls(tmp_path / 'official', split)
    tree = any_stand_in.cls(tmp_path / 'tree', split)
    order = torch.argsort(official.labels, stable=True)  # a tree goes class by class
    assert torch.equal(tree.images, official.images[order])
    assert torch.equal(tree.labels, official.labels[order])


def test_official_batches_come_before_a_tree_beside_them(stand_in, tmp_path):
    stand_in.write_folder(tmp_path)
    (tmp_path / 'train').mkdir()
    assert len(CIFAR10(tmp_path)) == 150


def test_data_root_may_begin_with_a_tilde(stand_in, tmp_path, monkeypatch):
    stand_in.write_tar(tmp_path / 'data')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert len(CIFAR10('~/data', 'test')) == 30


def test_nothing_there(stand_in, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no CIFAR10 under .*/no \(which does not exist\): .*download=True'):
        CIFAR10(tmp_path / 'no')
    with pytest.raises(FileNotFoundError, match=r'\(which is empty\): expected cifar-10-batches-py/, cifar-10-python'):
        CIFAR10(tmp_path)
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(FileNotFoundError, match=r'\(which has notes.txt\).*fetches https://www.cs.toronto.edu'):
        CIFAR10(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no CIFAR100 under .*cifar-100-python/, cifar-100-python.tar.gz'):
        CIFAR100(tmp_path)


def test_a_missing_batch_is_named_whatever_the_split(stand_in, tmp_path):
    folder = stand_in.write_folder(tmp_path)
    (folder / 'data_batch_3').unlink()
    for split in SPLITS:
        with pytest.raises(FileNotFoundError, match=r'cifar-10-batches-py lacks data_batch_3 \(of 6 batches\)'):
            CIFAR10(tmp_path, split)
    stand_in.write_tar(tmp_path)
    assert len(CIFAR10(tmp_path)) == 150


def test_a_split_missing_from_a_tree(stand_in, tmp_path):
    shutil.rmtree(stand_in.write_tree(tmp_path) / 'train')
    with pytest.raises(FileNotFoundError, match=r'has test/ but no train/ with one folder per class'):
        CIFAR10(tmp_path, 'train')
    assert len(CIFAR10(tmp_path, 'test')) == 30


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match=r"CIFAR10: split='val', expected 'train' or 'test'"):
        CIFAR10(tmp_path, 'val')


def test_num_samples(stand_in, tmp_path):
    stand_in.write_tar(tmp_path)
    dataset = CIFAR10(tmp_path, 'test', num_samples=20)
    assert torch.bincount(dataset.labels).tolist() == [2] * 10
    with pytest.raises(ValueError, match=r'num_samples=31, expected a whole number from 1 to 30'):
        CIFAR10(tmp_path, 'test', num_samples=31)


@pytest.mark.parametrize('split', SPLITS)
def test_every_error_is_one_line(stand_in, tmp_path, split):
    with pytest.raises(FileNotFoundError) as caught:
        CIFAR10(tmp_path, split)
    assert '\n' not in str(caught.value)


def test_real_images_if_they_are_here():
    root = Path.home() / '.cache/mmrecast'
    if not (root / 'test/truck').is_dir():
        pytest.skip('no CIFAR-10 tree in ~/.cache/mmrecast')
    before = sorted(entry.name for entry in root.iterdir())
    dataset = CIFAR10(root, 'test')
    assert torch.bincount(dataset.labels).tolist() == [1000] * 10
    from PIL import Image

    for index in (0, 4321, 9999):
        path = root / 'test' / CIFAR10.classes[index // 1000] / f'{index % 1000:04d}.jpg'
        np.testing.assert_array_equal(dataset[index]['inputs'].permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    assert sorted(entry.name for entry in root.iterdir()) == before
