"""Maps as rows: what a convolution multiplies with its weights at each position, and which positions are taken."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 2**24  # numbers in the patches unfolded at once: 64 MiB in float32
ROWS = 20  # rows per input that are enough
MIN_ROWS = 2**16  # taken in any case, if there are as many


def patch_size(conv: nn.Conv2d) -> int:
    """Return how many numbers a filter of ``conv``, without its groups, would multiply."""
    return conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]


def patches(conv: nn.Conv2d, x: Tensor, every: int = 1) -> Tensor:
    """Return the patches that ``conv`` sees in (N, C, H, W), padded in its mode: (N · H' · W', C · kh · kw).

    Args:
        conv (nn.Conv2d): The convolution; its groups do not matter.
        x (Tensor): (N, C, H, W); C need not be that of the convolution.
        every (int): Take every so many-th position of both directions. Defaults to 1, all of them.
    """
    mode = 'constant' if conv.padding_mode == 'zeros' else conv.padding_mode
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode)  # 'same' and 'valid' are written out there, too
    stride = [s * every for s in conv.stride]
    if conv.kernel_size == (1, 1):
        return rows(x[:, :, :: stride[0], :: stride[1]])
    return rows(F.unfold(x, conv.kernel_size, conv.dilation, 0, stride))


def rows(x: Tensor) -> Tensor:
    """Return a map (N, C, …) as (N · positions, C)."""
    return x.flatten(2).transpose(1, 2).reshape(-1, x.shape[1])


class Sampler:
    """Takes rows evenly spaced, the same in every pass, once there are more than enough of them.

    Args:
        total (int): Rows that will come.
        inputs (int): Unknowns per output; ``ROWS`` times as many rows are enough, and at least ``MIN_ROWS``.
        positions (int): Positions in a map: the spacing has no divisor in common with it, so that no part of the map is
            left out. Defaults to 1.
    """

    def __init__(self, total: int, inputs: int, positions: int = 1) -> None:
        self.step = max(1, total // max(ROWS * inputs, MIN_ROWS))
        while math.gcd(self.step, positions) > 1:
            self.step -= 1
        self._next = 0

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return what is taken of the next rows (n, …) of each tensor."""
        n, start = len(tensors[0]), self._next
        self._next = (start - n) % self.step
        return tuple(tensor[start :: self.step] for tensor in tensors)
