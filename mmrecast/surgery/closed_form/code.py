"""The narrow code: what a target with fewer channels than its source should give.

A code is z = P y + b of the teacher's output y of one block (N, C, H, W), from which y ≈ E z + e is to be had again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrecast.surgery.closed_form.cut import lift
from mmrecast.surgery.closed_form.examples import Examples
from mmrecast.surgery.closed_form.least_squares import LeastSquares
from mmrecast.surgery.closed_form.patches import Sampler, rows

SIGMAS = (1.0, 2.0, 3.0)  # how far mixtures are lifted before the ReLU


@dataclass(frozen=True)
class Code:
    """A narrow code.

    Args:
        name (str): How it was made: 'channels', 'mixtures'.
        weight (Tensor): P (m, C), in float64.
        shift (Tensor): b (m,), in float64.
        channels (tuple[int], optional): The teacher's channels, where they are m of those.
    """

    name: str
    weight: Tensor
    shift: Tensor
    channels: tuple[int, ...] | None = None

    def of(self, y: Tensor, wanted: Tensor) -> Tensor:
        """Return the code (N, m, H, W) of an output: channels are taken before its ReLU (``y``), mixtures behind it."""
        if self.channels is not None:
            return y[:, list(self.channels)] + self.shift.to(y.dtype)[:, None, None]
        mixed = torch.einsum('mc,nchw->nmhw', self.weight.to(y.dtype), wanted)
        return mixed + self.shift.to(y.dtype)[:, None, None]


@torch.no_grad()
def codes(
    examples: Examples, width: int, relu: bool, mixing: bool, leading: Tensor | None = None, skip: list | None = None
) -> Iterator[Code]:
    """Yield the codes of ``width`` numbers that are worth a try.

    Args:
        examples (Examples): The teacher's outputs.
        width (int): m.
        relu (bool): Whether the target ends with a ReLU.
        mixing (bool): Whether what reads the code can mix its channels before it does anything else to them.
        leading (Tensor, optional): (C, m) from a reduced-rank regression. Defaults to the principal components.
        skip (list[Tensor], optional): What the target adds to its output, in the order of ``examples``; channels then
            can be those that it resembles.
    """
    cov, mean, lifted = _covariance(examples)
    channels = most_telling(cov, width)
    if skip is not None:
        yield _channels(resembled(skip, examples), 'resembled', lifted, relu and not examples.relu)
    yield _channels(channels, 'channels', lifted, relu and not examples.relu)
    if not mixing:
        return
    vectors = torch.linalg.eigh(cov)[1].flip(1)[:, :width] if leading is None else leading
    if vectors.shape[1] < width:
        return
    vectors = vectors * torch.where(mean @ vectors >= 0, 1.0, -1.0)
    weight = vectors.T
    deviation = ((weight @ cov) * weight).sum(1).clamp_min(0).sqrt()
    for sigmas in SIGMAS if relu else (0.0,):
        shift = (sigmas * deviation - weight @ mean).clamp_min(0) if relu else torch.zeros_like(deviation)
        yield Code(f'mixtures lifted by {sigmas:g}' if relu else 'mixtures', weight, shift)


def _channels(channels: list[int], name: str, lifted: Tensor, lift: bool) -> Code:
    weight = torch.zeros(len(channels), len(lifted), dtype=torch.float64, device=lifted.device)
    weight[range(len(channels)), channels] = 1
    shift = lifted[channels] if lift else torch.zeros(len(channels), dtype=torch.float64, device=lifted.device)
    return Code(name, weight, shift, tuple(channels))


def most_telling(cov: Tensor, count: int) -> list[int]:
    """Return the ``count`` channels of which all others can be told best, chosen one after another.

    Each choice is the one that leaves the least of the variance that the former choices could not tell (a Cholesky
    factorisation with that pivot).

    Args:
        cov (Tensor): Covariance of the channels (C, C).
        count (int): How many.
    """
    left, chosen = cov.clone(), []
    floor = 1e-12 * cov.diagonal().mean().clamp_min(1e-300)
    for _ in range(count):
        diagonal = left.diagonal()
        gain = left.square().sum(0) / diagonal.clamp_min(floor)
        gain[diagonal <= floor] = 0
        gain[chosen] = -1
        pick = int(gain.argmax())
        chosen.append(pick)
        if diagonal[pick] > floor:
            left = left - torch.outer(left[:, pick], left[pick]) / diagonal[pick]
    return sorted(chosen)


def resembled(skip: list[Tensor], examples: Examples) -> list[int]:
    """Return for each channel of ``skip`` another of the teacher's that it correlates with, the surest pairs first."""
    m, c = skip[0].shape[1], examples.y[0].shape[1]
    sums = LeastSquares(m + c, 1, skip[0].device)
    sampler = Sampler(examples.positions, m + c, examples.map_size)
    for s, y in zip(skip, examples.y, strict=True):
        both = torch.cat([rows(s), rows(examples.wanted(y))], 1)
        sums.add(*sampler(both, both[:, :1]))
    cov = sums.solve(0).cov
    deviation = cov.diagonal().clamp_min(1e-30).sqrt()
    likeness = (cov / deviation[:, None] / deviation)[:m, m:].clone()
    found = [0] * m
    for _ in range(m):
        i, j = divmod(int(likeness.argmax()), c)
        found[i] = j
        likeness[i], likeness[:, j] = -torch.inf, -torch.inf
    return found


def _covariance(examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
    """Return covariance and mean of the teacher's outputs and what lifts them above 0."""
    channels = examples.y[0].shape[1]
    sums, sampler = None, Sampler(examples.positions, channels, examples.map_size)
    for y in examples.y:
        wanted = rows(examples.wanted(y))
        sums = sums or LeastSquares(channels, 1, y.device)
        sums.add(*sampler(wanted, wanted[:, :1]))
    fit = sums.solve(0)
    return fit.cov, fit.mean_u, lift(examples.y)
