r"""The closed-form start: the least-squares weights of a target block that is ``ReLU(BN(conv(x)))``.

With u the patches of the student's input to the block and y the teacher's output of that block before its last ReLU::

    (Cov(u) + ρI) Wᵀ = Cov(u, y)          ρ = ridge · mean of Cov(u)'s diagonal
    running mean = W mean(u)              scale = √(running variance + ε)
    running variance = diag(W Cov(u) Wᵀ)  shift = mean(y)

so that the BN passes the solution through.
"""

import logging
from collections.abc import Iterator

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CHUNK = 2**24  # numbers in the patches unfolded at once
_RELUS = {F.relu, torch.relu, torch.relu_, F.relu_, Tensor.relu, Tensor.relu_}


class LeastSquares:
    """Streamed float64 sums for the regression of y (rows of ``outputs`` numbers) on u (rows of ``inputs`` numbers)."""

    def __init__(self, inputs: int, outputs: int, device: torch.device | str = 'cpu') -> None:
        kw = dict(dtype=torch.float64, device=device)
        self.n = 0
        self.u, self.y = torch.zeros(inputs, **kw), torch.zeros(outputs, **kw)
        self.uu, self.uy = torch.zeros(inputs, inputs, **kw), torch.zeros(inputs, outputs, **kw)

    def add(self, u: Tensor, y: Tensor) -> None:
        """Add rows ``u`` (n, inputs) and ``y`` (n, outputs)."""
        u, y = u.double(), y.double()
        self.n += len(u)
        self.u += u.sum(0)
        self.y += y.sum(0)
        self.uu.addmm_(u.T, u)
        self.uy.addmm_(u.T, y)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return W (outputs, inputs), mean(u), mean(y) and the variance of W u (outputs,).

        Raises:
            ValueError: There are fewer than two rows, or a number is not finite.
        """
        if self.n < 2:
            raise ValueError(f'the closed-form start needs at least 2 positions, got {self.n}')
        mean_u, mean_y = self.u / self.n, self.y / self.n
        cov = self.uu / self.n - torch.outer(mean_u, mean_u)
        cross = self.uy / self.n - torch.outer(mean_u, mean_y)
        if not (torch.isfinite(cov).all() and torch.isfinite(cross).all()):
            raise ValueError('the closed-form start met activations that are not finite')
        damping = max(max(ridge, 1e-10) * cov.diagonal().mean().item(), 1e-12)  # a dependent input does no harm
        cov_ridge = cov + damping * torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
        weight = torch.cholesky_solve(cross, torch.linalg.cholesky(cov_ridge)).T
        variance = ((weight @ cov) * weight).sum(1).clamp_min(0)
        return weight, mean_u, mean_y, variance


@torch.no_grad()
def solve_block(conv: nn.Conv2d, norm: nn.BatchNorm2d, pairs: Iterator[tuple[Tensor, Tensor]], ridge: float) -> None:
    """Set ``conv`` and ``norm`` to the closed-form solution.

    Args:
        conv (nn.Conv2d): The convolution, without groups.
        norm (nn.BatchNorm2d): The norm behind it.
        pairs (Iterator): Pairs of the student's input (N, C, H, W) and the teacher's pre-ReLU output (N, C', H', W').
        ridge (float): Damping relative to the mean variance of a patch element.
    """
    inputs = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
    sums = LeastSquares(inputs, conv.out_channels, conv.weight.device)
    for x_all, y_all in pairs:
        images = max(1, _CHUNK // (inputs * y_all[0, 0].numel()))
        for x, y in zip(x_all.split(images), y_all.split(images), strict=True):
            patches = F.unfold(_padded(conv, x), conv.kernel_size, conv.dilation, 0, conv.stride)  # (N, inputs, H'W')
            sums.add(patches.transpose(1, 2).reshape(-1, inputs), y.flatten(2).transpose(1, 2).reshape(-1, y.shape[1]))
    if sums.n < 2 * inputs:
        print_log(
            f'the closed-form start has only {sums.n} positions for {inputs} weights per channel and may overfit: '
            "give start=dict(type='closed_form', images=…) more images",
            logger='current',
            level=logging.WARNING,
        )
    weight, mean_u, mean_y, variance = sums.solve(ridge)
    conv.weight.copy_(weight.view_as(conv.weight))
    if conv.bias is not None:
        conv.bias.zero_()
    norm.reset_running_stats()
    norm.running_mean.copy_(weight @ mean_u)
    norm.running_var.copy_(variance)
    norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(mean_y)


def _padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``x`` as the convolution pads it, whatever its mode; 'same' and 'valid' are written out there, too."""
    mode = 'constant' if conv.padding_mode == 'zeros' else conv.padding_mode
    return F.pad(x, conv._reversed_padding_repeated_twice, mode)


class _LastReLU(TorchFunctionMode):
    """Keeps what went into the last ReLU called, be it a module, a function or a method."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _RELUS:
            self.before = (args[0] if args else kwargs['input']).detach().clone()
        return func(*args, **(kwargs or {}))


def pre_relu_output(block: nn.Module, x: Tensor) -> Tensor:
    """Return the output of ``block`` for ``x`` before its last ReLU, or its output where it does not end with one."""
    with _LastReLU() as last, torch.no_grad():
        out = block(x.clone())  # a block may begin with a ReLU in place
    ends_with_relu = (
        last.before is not None and last.before.shape == out.shape and torch.equal(last.before.clamp_min(0), out)
    )
    return last.before if ends_with_relu else out
