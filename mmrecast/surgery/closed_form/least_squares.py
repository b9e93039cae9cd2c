r"""Ridge regression from streamed sums: what it predicts, how far off it is, and its best approximation of low rank.

With u the inputs and y the outputs of a row::

    (Cov(u) + ρI) Wᵀ = Cov(u, y)          ρ = ridge · mean of Cov(u)'s diagonal
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_PANEL = 1024  # columns of a product of rows with themselves; panels below the diagonal are not computed
SINGLE = 256  # inputs from which on products are taken in single precision, chunk by chunk


@dataclass(frozen=True)
class Fit:
    """The solution of a regression, in float64.

    Args:
        weight (Tensor): W (outputs, inputs).
        mean_u (Tensor): (inputs,); zeros without an intercept, like the next one.
        mean_y (Tensor): (outputs,). The intercept is ``mean_y − W mean_u``.
        cov (Tensor): Cov(u) (inputs, inputs).
        error (float): Σ(W u + b − y)² / Σ(y − mean y)².
    """

    weight: Tensor
    mean_u: Tensor
    mean_y: Tensor
    cov: Tensor
    error: float

    @property
    def predicted(self) -> Tensor:
        """Tensor: Cov(W u) (outputs, outputs)."""
        return self.weight @ self.cov @ self.weight.T

    def leading(self, rank: int) -> Tensor:
        """Return V (outputs, rank): V Vᵀ W is the best W of this rank (reduced-rank regression, Izenman 1975).

        The columns come in falling order of the variance that they predict; there are fewer where it is nothing.
        """
        values, vectors = torch.linalg.eigh(self.predicted)
        kept = int((values > 1e-9 * values[-1].clamp_min(1e-300)).sum())
        return vectors.flip(1)[:, : max(1, min(rank, kept))]


class LeastSquares:
    """Streamed sums for the regression of y (rows of ``outputs`` numbers) on u (rows of ``inputs`` numbers).

    The sums are float64. From ``SINGLE`` inputs on the products of a chunk, shifted by the first chunk's mean, are
    taken in float32: half the time, and on a GPU far less.

    Args:
        inputs (int): Numbers in u.
        outputs (int): Numbers in y.
        device (torch.device | str): Where the sums are. Defaults to the CPU.
        intercept (bool): Whether a constant is part of the model. Defaults to True.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = 'cpu', intercept: bool = True) -> None:
        kw = dict(dtype=torch.float64, device=device)
        self.n, self.intercept = 0, intercept
        self.dtype = torch.float64 if inputs < SINGLE else torch.float32
        self.shift_u: Tensor | None = None
        self.shift_y: Tensor | None = None
        self.u, self.y, self.yy = torch.zeros(inputs, **kw), torch.zeros(outputs, **kw), torch.zeros(outputs, **kw)
        self.uu, self.uy = torch.zeros(inputs, inputs, **kw), torch.zeros(inputs, outputs, **kw)

    def add(self, u: Tensor, y: Tensor) -> None:
        """Add rows ``u`` (n, inputs) and ``y`` (n, outputs)."""
        if not len(u):
            return
        if self.shift_u is None:  # a covariance does not change with it, its rounding does
            self.shift_u, self.shift_y = (v.double().mean(0) * self.intercept for v in (u, y))
        u, y = u.to(self.dtype) - self.shift_u.to(self.dtype), y.double() - self.shift_y
        self.n += len(u)
        self.u += u.sum(0, dtype=torch.float64)
        self.y += y.sum(0)
        self.yy += y.square().sum(0)
        for i in range(0, len(self.u), _PANEL):
            self.uu[i : i + _PANEL, i:] += u[:, i : i + _PANEL].T @ u[:, i:]
        self.uy += u.T @ y.to(self.dtype)

    def solve(self, ridge: float) -> Fit:
        """Return the solution.

        Args:
            ridge (float): Damping relative to the mean variance of an input.

        Raises:
            ValueError: There are fewer than two rows.
            FloatingPointError: A number is not finite.
        """
        if self.n < 2:
            raise ValueError(f'the closed-form start needs at least 2 positions, got {self.n}')
        mean_u, mean_y = self.u / self.n, self.y / self.n
        cov = self.uu.triu()
        cov += cov.triu(1).T
        cov /= self.n
        cross, square = self.uy / self.n, self.yy / self.n
        variance = square - mean_y * mean_y
        shift_u, shift_y = (0, 0) if self.shift_u is None else (self.shift_u.to(self.dtype).double(), self.shift_y)
        if self.intercept:
            cov.addr_(mean_u, mean_u, alpha=-1)
            cross.addr_(mean_u, mean_y, alpha=-1)
            square = variance
        else:
            mean_u, mean_y = torch.zeros_like(mean_u), torch.zeros_like(mean_y)
        if not (torch.isfinite(cov).all() and torch.isfinite(cross).all()):
            raise FloatingPointError('the closed-form start met activations that are not finite')
        damping = max(max(ridge, 1e-10) * cov.diagonal().mean().item(), 1e-12)  # a dependent input does no harm
        cov.diagonal().add_(damping)
        weight = torch.cholesky_solve(cross, torch.linalg.cholesky(cov)).T
        cov.diagonal().sub_(damping)
        residual = square - 2 * (weight.T * cross).sum(0) + ((weight @ cov) * weight).sum(1)
        error = residual.clamp_min(0).sum().item() / max(variance.sum().item(), 1e-30)
        return Fit(weight, mean_u + shift_u, mean_y + shift_y, cov, error)
