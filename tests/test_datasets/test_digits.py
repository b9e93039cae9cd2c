"""The digits of scikit-learn."""

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mmrecast.datasets import Digits


def test_the_split_is_complete_stratified_and_fixed():
    train, test = Digits('train'), Digits('test')
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 1, 8, 8) and train.metainfo['classes'] == tuple('0123456789')
    levels, labels = load_digits(return_X_y=True)
    whole = sorted(map(tuple, np.column_stack([np.round(levels * 255 / 16), labels]).astype(int).tolist()))
    parts = [torch.cat([d.images.flatten(1).long(), d.labels[:, None]], 1) for d in (train, test)]
    assert sorted(map(tuple, torch.cat(parts).tolist())) == whole
    shares = np.bincount(test.labels.numpy()) / np.bincount(labels)
    assert np.abs(shares - 360 / 1797).max() < 0.005
    # as scikit-learn 1.9.1 splits them: another split would make other results
    assert test.labels[:12].tolist() == [1, 4, 8, 6, 5, 9, 9, 1, 3, 2, 2, 2]
    assert test.images.sum().item() == 1_790_819


def test_grey_levels_are_spread_over_a_byte():
    assert Digits('train').images.unique().tolist() == [round(level * 255 / 16) for level in range(17)]


def test_enlarged():
    small, large = Digits('test'), Digits('test', size=16)
    assert large.images.shape == (360, 1, 16, 16) and large.labels.equal(small.labels)
    assert large.images[:, 0, 0, 0].equal(small.images[:, 0, 0, 0])  # a corner sees no neighbour
    corners = (small.images[:, 0, 3:5, 3:5].double() * 16 / 255).round() * 255 / 16  # unrounded, around the middle
    inner = (corners * torch.tensor([[9.0, 3.0], [3.0, 1.0]])).sum((1, 2)) / 16
    assert (large.images[:, 0, 7, 7] - inner).abs().max() <= 0.5001


@pytest.mark.parametrize('size', [7, 0, 8.0, True])
def test_bad_size(size):
    with pytest.raises(ValueError, match=r'Digits: size=.*, expected a whole number of at least 8'):
        Digits(size=size)


def test_bad_split():
    with pytest.raises(ValueError, match=r"Digits: split='val', expected 'train' or 'test'"):
        Digits('val')


def test_num_samples():
    assert torch.bincount(Digits(num_samples=50).labels).tolist() == [5] * 10


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ModuleNotFoundError, match='Digits needs scikit-learn: pip install scikit-learn'):
        Digits()
