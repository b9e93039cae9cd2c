"""Outputs that are negative, too, from a target that ends with a ReLU."""

import torch
from torch import Tensor

from mmrecast.blocks.solvable import Solvable

SIGMAS = 3  # by so many standard deviations below the mean nothing is cut
_ROUNDS = 20


def lift(y: list[Tensor]) -> Tensor:
    """Return what to add to each channel of maps (N, C, H, W) so that a ReLU cuts little of them: (C,), at least 0."""
    n = sum(batch.shape[0] * batch[0, 0].numel() for batch in y)
    mean = sum(batch.double().sum((0, 2, 3)) for batch in y) / n
    variance = sum(batch.double().square().sum((0, 2, 3)) for batch in y) / n - mean * mean
    return (SIGMAS * variance.clamp_min(0).sqrt() - mean).clamp_min(0)


def best_affine(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b (C,) for which ReLU(a p + b) comes close to y, by channel; both (n, C), in float64.

    Least squares on the rows where the ReLU is open, again and again, from several beginnings; the best of all is kept,
    the constant among them, so that it is never worse than the mean where that is not negative.
    """
    p, y = p.double(), y.double()
    deviation = p.std(0, correction=0)
    ones, zeros = torch.ones_like(deviation), torch.zeros_like(deviation)
    best_a, best_b = zeros.clone(), y.mean(0).clamp_min(0)
    best = (best_b - y).square().mean(0)
    for begin in (0.0, 1.0, -1.0):
        a, b = ones, begin * deviation
        for _ in range(_ROUNDS):
            loss = ((a * p + b).relu() - y).square().mean(0)
            better = loss < best
            best, best_a, best_b = (torch.where(better, *x) for x in ((loss, best), (a, best_a), (b, best_b)))
            open_ = (a * p + b > 0).double()
            n = open_.sum(0).clamp_min(1)
            mean_p, mean_y = (open_ * p).sum(0) / n, (open_ * y).sum(0) / n
            spread = (open_ * (p - mean_p).square()).sum(0)
            a = (open_ * (p - mean_p) * y).sum(0) / (spread + 1e-6 * n * deviation.square() + 1e-30)
            b = mean_y - a * mean_p
    return best_a, best_b


def rescale(spec: Solvable, a: Tensor, b: Tensor) -> None:
    """Turn the sum p of the terms, which end with norms, into a p + b: (C,) each."""
    for i, (_, norm) in enumerate(spec.terms):
        norm.weight.mul_(a)
        norm.bias.mul_(a)
        if i == 0:
            norm.bias.add_(b)
