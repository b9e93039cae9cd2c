"""The dataset in memory, its subsets, and the collate function."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from mmrecast.datasets import TensorDataset, batch_collate
from mmrecast.datasets.base import balanced_subset

LABELS = np.array([0, 1, 2] * 4)


@pytest.fixture
def dataset() -> TensorDataset:
    images = np.arange(12 * 2 * 3 * 4, dtype=np.uint8).reshape(12, 2, 3, 4)
    return TensorDataset(images, LABELS, ['a', 'b', 'c'])


def test_items(dataset):
    assert len(dataset) == 12 and dataset.metainfo == dict(classes=('a', 'b', 'c'))
    item = dataset[5]
    assert item['inputs'].flatten().tolist() == [(120 + n) % 256 for n in range(24)]
    assert (item['gt_label'].item(), item['sample_idx'].item()) == (2, 5)
    assert dataset[-1]['sample_idx'].item() == 11
    for index in (12, -13):
        with pytest.raises(IndexError, match=f'sample {index} of a dataset of 12'):
            dataset[index]


def test_batches(dataset):
    batch = dataset.__getitems__([7, 0, 7])
    assert batch['sample_idx'].tolist() == [7, 0, 7] and batch['gt_label'].tolist() == [1, 0, 1]
    assert batch['inputs'].shape == (3, 2, 3, 4) and batch['inputs'].dtype == torch.uint8
    assert batch['inputs'][0, 0, 0].tolist() == [168, 169, 170, 171]
    assert batch['gt_label'].dtype == batch['sample_idx'].dtype == torch.int64


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('subset', [False, True])
def test_the_loader_fetches_whole_batches(dataset, workers, subset, monkeypatch):
    monkeypatch.setattr(TensorDataset, '__getitem__', lambda *_: pytest.fail('fetched sample by sample'))
    source = Subset(dataset, range(11, -1, -1)) if subset else dataset
    loader = DataLoader(source, batch_size=5, num_workers=workers, collate_fn=batch_collate)
    batches = list(loader)
    indices = torch.cat([batch['sample_idx'] for batch in batches])
    assert [len(batch['inputs']) for batch in batches] == [5, 5, 2]
    assert indices.tolist() == (list(range(12))[::-1] if subset else list(range(12)))
    assert torch.equal(torch.cat([batch['inputs'] for batch in batches]), dataset.images[indices])


def test_collate_stacks_single_items(dataset):
    together, singly = dataset.__getitems__([3, 1]), batch_collate([dataset[3], dataset[1]])
    assert together.keys() == singly.keys() and all(together[key].equal(singly[key]) for key in together)
    assert batch_collate(together) is together


@pytest.mark.parametrize('given, name', [([], 'list'), ([(1, 2)], 'list of tuple'), (torch.zeros(2), 'Tensor')])
def test_collate_refuses(given, name):
    with pytest.raises(TypeError, match=f'batch_collate was given {name}, expected a dict or a list of dicts'):
        batch_collate(given)


def test_labels_outside_the_classes():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    with pytest.raises(ValueError, match=r'TensorDataset: label 2 of sample 1 is outside the 2 classes \(2 such'):
        TensorDataset(images, np.array([0, 2, -1]), ['a', 'b'])


@pytest.mark.parametrize(
    'shape, dtype, labels',
    [((3, 2, 2), np.uint8, 3), ((3, 1, 2, 2), np.float32, 3), ((3, 1, 2, 2), np.uint8, 2)],
)
def test_arrays_that_do_not_fit(shape, dtype, labels):
    with pytest.raises(ValueError, match=r'expected uint8 \(N, C, H, W\) with \(N,\)'):
        TensorDataset(np.zeros(shape, dtype), np.zeros(labels, np.int64), ['a'])


def test_subset_is_balanced_and_evenly_spaced():
    labels = np.repeat([0, 1], 100)
    np.testing.assert_array_equal(balanced_subset(labels, 8), [0, 25, 50, 75, 100, 125, 150, 175])
    counts = np.bincount(np.tile(np.arange(10), 100)[balanced_subset(np.tile(np.arange(10), 100), 207)])
    assert counts.sum() == 207 and set(counts) == {20, 21}


def test_a_small_class_leaves_its_share_to_the_others():
    labels = np.array([0] * 50 + [1] * 2 + [2] * 50)
    assert np.bincount(labels[balanced_subset(labels, 42)]).tolist() == [20, 2, 20]


def test_subset_of_everything_is_everything():
    np.testing.assert_array_equal(balanced_subset(LABELS, 12), np.arange(12))


@pytest.mark.parametrize('number', [0, -1, 13, 2.0, True, '5'])
def test_impossible_subset(number):
    with pytest.raises(ValueError, match=r'num_samples=.*, expected a whole number from 1 to 12'):
        balanced_subset(LABELS, number)


def test_sample_idx_counts_within_the_subset():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    subset = TensorDataset(images, LABELS, ['a', 'b', 'c'], num_samples=3)
    batch = subset.__getitems__(range(3))
    assert batch['sample_idx'].tolist() == [0, 1, 2] and batch['inputs'].flatten().tolist() == [0, 1, 2]
