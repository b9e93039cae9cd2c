"""Random crop and flip of a whole batch, with random numbers that depend only on seed, epoch and sample."""

import torch
from torch import Tensor
from torch.nn import functional as F

_BITS = 64
_FIELD = 21  # bits of the hash spent on one crop offset


def _signed(value: int) -> int:
    value &= (1 << _BITS) - 1
    return value - (1 << _BITS) if value >> (_BITS - 1) else value


_GOLDEN, _MUL1, _MUL2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (_BITS - bits)) - 1)  # logical: torch's own shift repeats the sign


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 by SplitMix64's finaliser (Steele, Lea and Flood 2014); products wrap modulo 2^64."""
    x = (x ^ _shift(x, 30)) * _MUL1
    x = (x ^ _shift(x, 27)) * _MUL2
    return x ^ _shift(x, 31)


def sample_hash(seed: int, epoch: int, sample_idx: Tensor) -> Tensor:
    """Hash (seed, epoch, sample) to 64 random-looking bits.

    Args:
        seed (int): Seed of the run.
        epoch (int): Epoch, from 0.
        sample_idx (Tensor): int64, shape (N,).

    Returns:
        Tensor: int64, shape (N,), on the device of ``sample_idx``.
    """
    key = sample_idx.new_full((1,), _signed(seed))  # filled on the device: nothing is copied there
    key = _mix(key * _GOLDEN + _GOLDEN)
    key = _mix((key ^ _signed(epoch)) * _GOLDEN + _GOLDEN)
    return _mix(_mix(sample_idx * _GOLDEN + key))


def draw(seed: int, epoch: int, sample_idx: Tensor, crop_padding: int, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a crop offset and a flip for every sample.

    Args:
        seed (int): Seed of the run.
        epoch (int): Epoch, from 0.
        sample_idx (Tensor): int64, shape (N,).
        crop_padding (int): Offsets go from 0 to twice this.
        flip (bool): Whether to flip one half of the images.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Top and left offset (int64) and flip (bool), each of shape (N,).
    """
    bits = sample_hash(seed, epoch, sample_idx)
    offsets, field = 2 * crop_padding + 1, (1 << _FIELD) - 1
    top = ((_shift(bits, _BITS - _FIELD) & field) * offsets) >> _FIELD
    left = ((_shift(bits, _BITS - 2 * _FIELD) & field) * offsets) >> _FIELD
    flipped = (bits & 1).bool() if flip else torch.zeros_like(bits, dtype=torch.bool)
    return top, left, flipped


def crop_flip(images: Tensor, top: Tensor, left: Tensor, flipped: Tensor, crop_padding: int) -> Tensor:
    """Pad every image with zeros, cut out a window of the old size, and mirror it where asked.

    Args:
        images (Tensor): Any type, shape (N, C, H, W).
        top (Tensor): First row of the window in the padded image, shape (N,).
        left (Tensor): First column of it, shape (N,).
        flipped (Tensor): bool, shape (N,).
        crop_padding (int): Zeros added on every side.

    Returns:
        Tensor: Same type and shape as ``images``.
    """
    count, channels, height, width = images.shape
    row, column = (torch.arange(n, device=images.device) for n in (height, width))
    column = torch.where(flipped[:, None], width - 1 - column, column)  # (N, W)
    row, column = top[:, None] + row, left[:, None] + column  # (N, H), (N, W), in the padded image
    pixel = row[:, :, None] * (width + 2 * crop_padding) + column[:, None]  # (N, H, W)
    padded = F.pad(images, (crop_padding,) * 4).flatten(2)  # (N, C, (H + 2p)(W + 2p))
    return padded.gather(2, pixel.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)
