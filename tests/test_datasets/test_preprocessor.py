"""Batches of every form, through crop, flip and normalisation."""

import numpy as np
import pytest
import torch

from mmrecast.datasets import BatchPreprocessor
from mmrecast.datasets.crop_flip import draw
from mmrecast.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return dict(
        inputs=images,
        gt_label=torch.arange(24) % 10,
        sample_idx=torch.randperm(1000, generator=generator)[:24],
    )


def preprocessor(**changes) -> BatchPreprocessor:
    return BatchPreprocessor(**{**dict(mean=MEAN, std=STD, crop_padding=4, flip=True), **changes})


def take(batch: dict, index) -> dict:
    return {key: value[index] for key, value in batch.items()}


def test_training_equals_a_loop_that_pads_before_it_normalises(naive_crop_flip, batch):
    pre = preprocessor(seed=11)
    pre.set_epoch(6)
    found = pre(batch, training=True)
    choice = draw(11, 6, batch['sample_idx'], 4, True)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
    for i, (top, left, flipped) in enumerate(zip(*(part.tolist() for part in choice), strict=True)):
        cropped = naive_crop_flip(batch['inputs'][i].double().numpy(), top, left, flipped, 4)
        np.testing.assert_allclose(found['inputs'][i].numpy(), (cropped - mean) / std, atol=1e-6)
    assert found['inputs'].dtype == torch.float32
    assert found['data_samples']['gt_label'] is batch['gt_label']
    assert found['data_samples']['sample_idx'] is batch['sample_idx']
    raw = BatchPreprocessor(crop_padding=4, flip=True, seed=11)
    raw.set_epoch(6)
    each = zip(batch['inputs'].double().numpy(), *(part.tolist() for part in choice), strict=True)
    cropped = np.stack([naive_crop_flip(*one, 4) for one in each])
    np.testing.assert_array_equal(raw(batch, training=True)['inputs'].double().numpy(), cropped)


def test_evaluation_only_normalises(batch):
    expected = (batch['inputs'].double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    found = preprocessor()(batch)['inputs']
    assert (found - expected).abs().max() < 1e-6
    assert batch['inputs'].dtype == torch.uint8


def test_same_for_any_split_and_order_of_the_batch(batch):
    pre = preprocessor()
    whole = pre(batch, training=True)['inputs']
    parts = [pre(take(batch, slice(i, j)), training=True)['inputs'] for i, j in ((0, 1), (1, 9), (9, 24))]
    assert torch.cat(parts).equal(whole)
    order = torch.randperm(24)
    assert pre(take(batch, order), training=True)['inputs'].equal(whole[order])


def test_another_epoch_sample_or_seed_gives_another_crop(batch):
    first = preprocessor()(batch, training=True)['inputs']
    later, seeded = preprocessor(), preprocessor(seed=1)
    later.set_epoch(1)
    moved = {**batch, 'sample_idx': batch['sample_idx'] + 1000}
    for other in (later(batch, True), seeded(batch, True), preprocessor()(moved, True)):
        same = (other['inputs'] == first).flatten(1).all(1)
        assert same.sum() <= 3  # one in 162 is
    later.set_epoch(0)
    assert later(batch, True)['inputs'].equal(first)


def test_without_sample_idx_the_position_in_the_epoch_counts(batch):
    pre = preprocessor()
    images, labels = batch['inputs'], batch['gt_label']
    whole = pre({**batch, 'sample_idx': torch.arange(24)}, True)['inputs']
    found = [pre((images[i : i + 8], labels[i : i + 8]), True) for i in (0, 8, 16)]
    assert torch.cat([part['inputs'] for part in found]).equal(whole)
    assert found[0]['data_samples']['sample_idx'] is None and found[0]['data_samples']['gt_label'].equal(labels[:8])
    pre.set_epoch(0, seen=8)
    assert pre([images[8:16], labels[8:16]], True)['inputs'].equal(whole[8:16])
    pre.set_epoch(0)
    pre((images[:8], labels[:8]), False)
    assert pre((images[:8], labels[:8]), True)['inputs'].equal(whole[:8])


def test_normalised_float_images_stay_as_they_are(batch):
    images = torch.randn(4, 3, 32, 32)
    found = BatchPreprocessor()((images, torch.zeros(4, dtype=torch.int32)))
    assert found['inputs'].equal(images) and found['data_samples']['gt_label'].dtype == torch.int64
    assert BatchPreprocessor()((images.double(), torch.zeros(4)))['inputs'].dtype == torch.float32


@pytest.mark.parametrize('stacked', [False, True])
def test_packed_by_mmpretrain(batch, stacked):
    from mmpretrain.structures import DataSample

    samples = [DataSample(metainfo=dict(sample_idx=int(i))) for i in batch['sample_idx']]
    for sample, label in zip(samples, batch['gt_label'], strict=True):
        sample.set_gt_label(int(label))
    images = batch['inputs'] if stacked else list(batch['inputs'])
    found, expected = (preprocessor()(data, True) for data in (dict(inputs=images, data_samples=samples), batch))
    assert found['inputs'].equal(expected['inputs'])
    assert all(found['data_samples'][key].equal(expected['data_samples'][key]) for key in ('gt_label', 'sample_idx'))
    del samples[3].gt_label
    assert preprocessor()(dict(inputs=images, data_samples=samples))['data_samples']['gt_label'] is None


def test_its_own_output_and_unlabelled_images_are_batches_too(batch):
    once = preprocessor()(batch)
    again = BatchPreprocessor()(once)
    assert again['inputs'].equal(once['inputs']) and again['data_samples']['gt_label'].equal(batch['gt_label'])
    assert preprocessor()(dict(inputs=batch['inputs']))['data_samples'] == dict(gt_label=None, sample_idx=None)


def test_moves_everything_to_its_device(batch):
    found = preprocessor().to('meta')(batch)
    assert {found['inputs'].device.type, found['data_samples']['gt_label'].device.type} == {'meta'}


def test_leaves_nothing_in_a_checkpoint():
    assert preprocessor().state_dict() == {}


def test_is_built_by_name():
    pre = MODELS.build(dict(type='BatchPreprocessor', input_shape=[1, 8, 8], mean=[78], std=[96], crop_padding=1))
    assert pre(dict(inputs=torch.full((2, 1, 8, 8), 78, dtype=torch.uint8)))['inputs'].abs().max() == 0


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            dict(input_shape=(32, 32)),
            r'input_shape=\(32, 32\), expected three positive whole numbers \(C, H, W\)',
        ),
        (dict(input_shape=(3, 0, 32)), r'input_shape=\(3, 0, 32\), expected three positive'),
        (dict(crop_padding=-1), r'crop_padding=-1, expected a whole number of at least 0'),
        (dict(crop_padding=1.5), r'crop_padding=1.5, expected a whole number'),
        (dict(std=None), r'mean=.* with std=None, expected both or neither'),
        (dict(mean=[1.0]), r'mean has 1 values, but input_shape \(3, 32, 32\) has 3 channels'),
        (dict(std=[1.0, 0.0, 1.0]), r'std=\[1.0, 0.0, 1.0\], expected positive numbers'),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        preprocessor(**changes)


def test_bad_batches(batch):
    pre = preprocessor()
    with pytest.raises(ValueError, match=r'images have shape \(3, 28, 28\), but input_shape is \(3, 32, 32\)'):
        pre(dict(inputs=batch['inputs'][:, :, :28, :28]))
    with pytest.raises(ValueError, match=r'labels of shape \(23,\) for 24 images'):
        pre((batch['inputs'], batch['gt_label'][:23]))
    with pytest.raises(ValueError, match=r'shapes \(3, 28, 32\), \(3, 32, 32\), expected one shape'):
        pre(dict(inputs=[batch['inputs'][0], batch['inputs'][0, :, :28]]))
    with pytest.raises(TypeError, match=r"a batch is a dict with \['img'\], expected a dict with 'inputs' or a pair"):
        pre(dict(img=batch['inputs']))
    with pytest.raises(TypeError, match=r'a batch is a Tensor, expected'):
        pre(batch['inputs'])


@pytest.mark.parametrize(('changes', 'seen'), [({}, [None] * 5), (dict(views=2), [0, 1, 0, 1, 0])])
def test_views_come_again(batch, changes, seen):
    pre, found = preprocessor(**changes), []
    for epoch in range(5):
        pre.set_epoch(epoch)
        found.append(pre(batch, training=True))
    assert [one['data_samples']['view'] for one in found] == seen
    again = [[i for i in range(5) if found[i]['inputs'].equal(one['inputs'])] for one in found]
    assert again == ([[0, 2, 4], [1, 3]] * 3)[:5] if changes else again == [[i] for i in range(5)]


def test_images_without_augmentation_are_one_view(batch):
    pre = preprocessor(crop_padding=0, flip=False)
    assert pre(batch, training=True)['data_samples']['view'] == pre.view == 0
    assert 'view' not in pre(batch)['data_samples']


@pytest.mark.parametrize('views', [0, -1, 1.5, True, 'two'])
def test_views_that_are_none(views):
    with pytest.raises(ValueError, match=f'views={views!r}, expected a whole number of at least 1, or None'):
        preprocessor(views=views)
