"""Softmax, divergences and correlation on lists of floats, formulas written out, for the tests of logit losses."""

import math

import torch
from torch import Tensor

Row = list[float]


def logits(seed: int, samples: int = 5, classes: int = 7, scale: float = 3.0) -> Tensor:
    """Return random logits in float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(samples, classes, dtype=torch.float64, generator=generator)


def softmax(row: Row, tau: float = 1.0) -> Row:
    powers = [math.exp(z / tau) for z in row]
    return [p / sum(powers) for p in powers]


def kl(p: Row, q: Row) -> float:
    """Return KL(p ‖ q)."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def cross_entropy(p: Row, q: Row) -> float:
    """Return −Σ p log q."""
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def correlation(a: Row, b: Row) -> float:
    """Return Pearson's ρ."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def assert_gradient_of_the_student_alone(loss, s: Tensor, t: Tensor, *extra: Tensor) -> None:
    """Compare the student's gradient with central differences in one direction; the teacher must have none."""
    s, t = s.clone().requires_grad_(), t.clone().requires_grad_()
    loss(s, t, *extra).backward()
    assert t.grad is None
    direction, step = logits(99, *s.shape, scale=1.0), 1e-5
    with torch.no_grad():
        rise = loss(s + step * direction, t, *extra) - loss(s - step * direction, t, *extra)
    expected = rise.item() / (2 * step)
    assert abs(expected) > 1e-4
    torch.testing.assert_close((s.grad * direction).sum().item(), expected, rtol=1e-6, atol=1e-9)
