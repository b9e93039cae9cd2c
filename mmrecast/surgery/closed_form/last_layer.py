r"""The convolutions whose sum is a block's output, solved jointly by least squares.

With u the patches that all of them read, side by side, and t the output wanted, each term's BN passes its share of the
solution through::

    running mean = W mean(u)       running variance = diag(W Cov(u) Wᵀ)       scale = √(running variance + ε)

and the first one adds the constant.
"""

import logging
from collections.abc import Callable, Iterator

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmrecast.blocks.solvable import Layer, Solvable
from mmrecast.surgery.closed_form.examples import Examples
from mmrecast.surgery.closed_form.least_squares import Fit, LeastSquares
from mmrecast.surgery.closed_form.parts import inputs_of
from mmrecast.surgery.closed_form.patches import Sampler, patch_size, patches, rows

Wanted = Callable[[Tensor], Tensor]


@torch.no_grad()
def solve_last(block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted, ridge: float) -> Fit:
    """Set the terms of ``spec`` to the closed-form solution, given the layers before them.

    Args:
        block (nn.Module): The target block, in eval mode.
        spec (Solvable): Its parts.
        examples (Examples): What it is solved on.
        wanted (Callable): From the teacher's output before its ReLU to what the sum of the terms and the skip should
            be, both (N, C, H, W).
        ridge (float): Damping relative to the mean variance of a patch element.
    """
    fit = regress(block, spec, examples, wanted, ridge)
    set_terms(spec.terms, fit)
    return fit


def regress(block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted, ridge: float) -> Fit:
    """Return the solution of :func:`solve_last`; nothing is changed."""
    sums, inputs = None, sum(patch_size(conv) for conv, _ in spec.terms)
    intercept = any(norm is not None or conv.bias is not None for conv, norm in spec.terms)
    for u, t in regression_rows(block, spec, examples, wanted):
        sums = sums or LeastSquares(inputs, t.shape[1], u.device, intercept)
        sums.add(u, t)
    sums = sums or LeastSquares(inputs, 1)
    if sums.n < 2 * inputs:
        print_log(
            f'the closed-form start has only {sums.n} positions for {inputs} weights per channel and may overfit: '
            "give start=dict(type='closed_form', images=…) more images",
            logger='current',
            level=logging.WARNING,
        )
    return sums.solve(ridge)


def regression_rows(
    block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the terms' patches (n, inputs) and what is wanted of their sum (n, outputs), evenly subsampled."""
    convs = [conv for conv, _ in spec.terms]
    inputs = sum(map(patch_size, convs))
    sampler = Sampler(examples.positions, inputs, examples.map_size) if examples.y else None
    for x, y in examples.chunks(inputs) if examples.y else ():
        u = torch.cat([patches(conv, read) for conv, read in zip(convs, inputs_of(block, convs, x), strict=True)], 1)
        t = wanted(y)
        yield sampler(u, rows(t if spec.skip is None else t - spec.skip(x)))


def set_terms(terms: tuple[Layer, ...], fit: Fit) -> None:
    """Give each term its share of the solution."""
    shares = torch.tensor([0, *(patch_size(conv) for conv, _ in terms)]).cumsum(0).tolist()
    constant, open_ = fit.mean_y.clone(), None
    for (conv, norm), i, j in zip(terms, shares[:-1], shares[1:], strict=True):
        weight = fit.weight[:, i:j]
        conv.weight.copy_(weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.zero_()
        if norm is None:
            constant -= weight @ fit.mean_u[i:j]
        else:
            pass_through(norm, weight @ fit.mean_u[i:j], ((weight @ fit.cov[i:j, i:j]) * weight).sum(1))
        place = conv.bias if norm is None else norm.bias
        open_ = place if open_ is None else open_
    if open_ is not None:
        open_.copy_(constant)


def pass_through(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Make ``norm`` take away the mean of its input, of these statistics, and nothing else."""
    norm.reset_running_stats()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance.clamp_min(0))
    norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())
    norm.bias.zero_()
