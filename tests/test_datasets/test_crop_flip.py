"""Crop and flip of whole batches against a loop over images, and the random numbers behind them."""

import numpy as np
import pytest
import torch

from mmrecast.datasets.crop_flip import crop_flip, draw, sample_hash

MASK = (1 << 64) - 1


def naive_mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def naive_hash(seed: int, epoch: int, sample: int) -> int:
    golden = 0x9E3779B97F4A7C15
    key = naive_mix((seed * golden + golden) & MASK)
    key = naive_mix(((key ^ (epoch & MASK)) * golden + golden) & MASK)
    return naive_mix(naive_mix((sample * golden + key) & MASK))


@pytest.mark.parametrize('seed, epoch', [(0, 0), (7, 3), (-1, 12345), (2**63 + 5, 1)])
def test_hash_against_python_integers(seed, epoch):
    samples = [0, 1, 2, 49_999, 2**40, 2**62 + 1]
    found = sample_hash(seed, epoch, torch.tensor(samples)).tolist()
    assert [value & MASK for value in found] == [naive_hash(seed, epoch, sample) for sample in samples]


def test_mix_is_splitmix64():
    # the first outputs of SplitMix64 seeded with 1234567, as its authors' reference program prints them
    state, outputs = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        outputs.append(naive_mix(state))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize('shape, padding', [((37, 3, 32, 32), 4), ((20, 1, 8, 8), 1), ((25, 2, 5, 9), 3)])
@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_equals_a_loop_over_images(naive_crop_flip, shape, padding, flip, dtype):
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    top, left, flipped = draw(5, 2, torch.arange(100, 100 + shape[0]), padding, flip)
    found = crop_flip(images, top, left, flipped, padding)
    expected = np.stack([
        naive_crop_flip(image, t, s, f, padding)
        for image, t, s, f in zip(
            images.double().numpy(), top.tolist(), left.tolist(), flipped.tolist(), strict=True
        )
    ])  # fmt: skip
    assert found.dtype == dtype and found.is_contiguous()
    np.testing.assert_array_equal(found.double().numpy(), expected)
    assert flip == flipped.any().item()


def test_padding_zero_only_flips():
    images = torch.rand(6, 3, 4, 4)
    top, left, flipped = draw(0, 0, torch.arange(6), 0, True)
    assert not top.any() and not left.any()
    expected = torch.stack([image.flip(2) if f else image for image, f in zip(images, flipped, strict=True)])
    assert crop_flip(images, top, left, flipped, 0).equal(expected)


def _chi_square(values: torch.Tensor, cells: int) -> float:
    counts = torch.bincount(values.flatten(), minlength=cells).double()
    assert len(counts) == cells
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum().item()


@pytest.mark.parametrize('epoch', [0, 1, 100])
def test_offsets_and_flips_are_uniform_and_independent(epoch):
    top, left, flipped = draw(0, epoch, torch.arange(50_000), 4, True)
    cells = (top * 9 + left) * 2 + flipped
    # 161 degrees of freedom: mean 161, deviation 18; five of them on either side
    assert 71 < _chi_square(cells, 162) < 251


def test_neighbours_and_epochs_are_independent():
    drawn = [draw(0, epoch, torch.arange(50_000), 4, True) for epoch in range(2)]
    place = [top * 9 + left for top, left, _ in drawn]
    # 6,560 degrees of freedom: mean 6,560, deviation 115
    for pairs in (place[0] * 81 + place[1], place[0][:-1] * 81 + place[0][1:]):
        assert 5985 < _chi_square(pairs, 81 * 81) < 7135
    flips = [flipped.double() for _, _, flipped in drawn]
    for one, other in ((flips[0], flips[1]), (flips[0][:-1], flips[0][1:])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / 50_000**0.5


def test_one_sample_over_the_epochs_is_uniform():
    draws = [draw(3, epoch, torch.tensor([17]), 4, True) for epoch in range(3000)]
    assert _chi_square(torch.cat([top for top, _, _ in draws]), 9) < 8 + 5 * 4
    assert _chi_square(torch.cat([left for _, left, _ in draws]), 9) < 8 + 5 * 4
    assert _chi_square(torch.cat([flipped.long() for _, _, flipped in draws]), 2) < 1 + 5 * 1.5


def test_seed_epoch_and_sample_all_matter():
    samples = torch.arange(1000)
    base, *others = (sample_hash(seed, epoch, samples) for seed, epoch in ((0, 0), (1, 0), (0, 1)))
    assert len(base.unique()) == 1000
    assert all(not (base == other).any() for other in others)
    assert sample_hash(0, 1, samples).ne(sample_hash(1, 0, samples)).all()
