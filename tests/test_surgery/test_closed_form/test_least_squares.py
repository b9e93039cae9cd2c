import numpy as np
import pytest
import torch

from mmrecast.surgery.closed_form import least_squares
from mmrecast.surgery.closed_form.least_squares import LeastSquares


def correlated(n: int, inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(inputs, inputs, generator=generator) / inputs**0.5
    u = torch.randn(n, inputs, generator=generator) @ mix + 3
    y = u @ torch.randn(inputs, outputs, generator=generator) + torch.randn(n, outputs, generator=generator)
    return u, y


def solved(u, y, ridge=1e-4, parts=3, **options):
    sums = LeastSquares(u.shape[1], y.shape[1], **options)
    for some_u, some_y in zip(u.chunk(parts), y.chunk(parts), strict=True):
        sums.add(some_u, some_y)
    return sums.solve(ridge)


@pytest.mark.parametrize('panel', [1024, 5])
def test_single_precision_products_are_as_good(monkeypatch, panel):
    """The residual of the solution differs from that of a direct solution in float64 by less than one millionth."""
    monkeypatch.setattr(least_squares, 'SINGLE', 1)
    monkeypatch.setattr(least_squares, '_PANEL', panel)
    u, y = correlated(4000, 40, 6)
    fit = solved(u, y, 0)
    u, y = u.double().numpy(), y.double().numpy()
    with_one = np.c_[u, np.ones(len(u))]
    solution = np.linalg.lstsq(with_one, y, rcond=None)[0]
    best = ((with_one @ solution - y) ** 2).sum()
    ours = ((u - fit.mean_u.numpy()) @ fit.weight.numpy().T + fit.mean_y.numpy() - y) ** 2
    assert ours.sum() / best - 1 < 1e-6
    assert fit.error == pytest.approx(best / ((y - y.mean(0)) ** 2).sum(), rel=1e-4)


def test_leading_is_the_reduced_rank_regression():
    """V Vᵀ W leaves what the singular values of the fitted outputs that are left out leave, and the rest of the fit."""
    u, y = correlated(500, 8, 6)
    fit = solved(u, y, 0)
    v = fit.leading(2)
    u, y = (a.double().numpy() - a.double().numpy().mean(0) for a in (u, y))
    fitted = u @ np.linalg.lstsq(u, y, rcond=None)[0]
    left, values, right = np.linalg.svd(fitted, full_matrices=False)
    best = (left[:, :2] * values[:2]) @ right[:2]
    ours = u @ (v @ v.T @ fit.weight).numpy().T
    np.testing.assert_allclose(ours, best, atol=1e-5)
    assert ((ours - y) ** 2).sum() == pytest.approx(((fitted - y) ** 2).sum() + (values[2:] ** 2).sum(), rel=1e-6)


def test_without_an_intercept():
    u, y = correlated(500, 8, 3)
    fit = solved(u, y, 0, intercept=False)
    expected = np.linalg.lstsq(u.double().numpy(), y.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(fit.weight.numpy(), expected.T, atol=1e-6)
    assert not fit.mean_u.any() and not fit.mean_y.any()


def test_what_cannot_be_solved():
    with pytest.raises(ValueError, match='the closed-form start needs at least 2 positions, got 0'):
        LeastSquares(3, 2).solve(0.1)
    sums = LeastSquares(3, 2)
    sums.add(torch.tensor([[1.0, 2, 3], [float('nan'), 0, 0]]), torch.zeros(2, 2))
    with pytest.raises(FloatingPointError, match='the closed-form start met activations that are not finite'):
        sums.solve(0.1)
