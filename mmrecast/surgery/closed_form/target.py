"""The start of a whole target block: every way is tried on data, and what leaves the smallest residual is kept."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmrecast.blocks.solvable import Solvable
from mmrecast.surgery.closed_form.code import Code, codes
from mmrecast.surgery.closed_form.cut import best_affine, lift, rescale
from mmrecast.surgery.closed_form.examples import Examples
from mmrecast.surgery.closed_form.first_layers import first_layers
from mmrecast.surgery.closed_form.last_layer import Wanted, regression_rows, solve_last
from mmrecast.surgery.closed_form.least_squares import Fit, LeastSquares
from mmrecast.surgery.closed_form.parts import parts_of, solvable_of
from mmrecast.surgery.closed_form.patches import Sampler, patch_size, rows


@dataclass(frozen=True)
class Start:
    """What the start of a block came to.

    Args:
        error (float): Σ(ŷ − y)² / Σ(y − mean y)² of its output against the teacher's, on what it was solved on; of a
            narrow target, with the best linear expansion of its output.
        way (str): Which ways were taken.
        code (Code, optional): What a narrow target gives.
        lifted (Tensor, optional): What was added to each channel of the output (C,), for what reads it to take back.
    """

    error: float
    way: str
    code: Code | None = None
    lifted: Tensor | None = None


@torch.no_grad()
def start_target(
    target: nn.Module,
    examples: Sequence[Examples],
    ridge: float,
    old: nn.Module | None = None,
    may_lift: bool = False,
    mixing: bool = True,
) -> Start:
    """Set the weights of ``target`` by least squares.

    Args:
        target (nn.Module): A block with a ``solvable()``, or a sequence of such.
        examples (Sequence[Examples]): One per block of the sequence; only the first has inputs, those of the others are
            what the blocks before them give.
        ridge (float): Damping relative to the mean variance of a patch element.
        old (nn.Module, optional): The block that stood here, reading the same input.
        may_lift (bool): Whether what reads the output takes back what is added to its channels. Defaults to False.
        mixing (bool): Whether what reads a narrow output mixes its channels first. Defaults to True.

    Raises:
        ValueError: A part does not take part.
        FloatingPointError: Its activations are not finite.
    """
    modes = {module: module.training for module in target.modules()}
    target.eval()
    if old is not None:
        old = copy.deepcopy(old).eval()
    parts, start, x = parts_of(target), None, examples[0].x
    for i, (part, wanted) in enumerate(zip(parts, examples, strict=True)):
        own = Examples(x, wanted.y, wanted.relu)
        code = None if start is None else start.code
        old_part = old if len(parts) == 1 else _part_of(old, i, len(parts))
        start = _start_part(part, own, ridge, old_part, may_lift and len(parts) == 1, mixing, code)
        if i + 1 < len(parts):
            x = [part(batch.clone()) for batch in x]
    for module, training in modes.items():
        module.training = training
    return start


def stops(children: int, parts: int) -> list[int]:
    """Return behind which of a sequence's ``children`` each of ``parts`` blocks in its place is to stand."""
    return [(i + 1) * children // parts - 1 for i in range(parts)] if children >= parts else [children - 1] * parts


def _part_of(old: nn.Module | None, i: int, parts: int) -> nn.Module | None:
    """Return the block of a former sequence whose place part i takes, the first of those that it stands for."""
    if not isinstance(old, nn.Sequential) or len(old) < parts:
        return None
    return old[0 if i == 0 else stops(len(old), parts)[i - 1] + 1]


def _start_part(
    block: nn.Module,
    examples: Examples,
    ridge: float,
    old: nn.Module | None,
    may_lift: bool,
    mixing: bool,
    code: Code | None,
) -> Start:
    spec = solvable_of(block)
    if not spec.relu and examples.relu:
        examples = Examples(examples.x, [y.relu() for y in examples.y])
    if not spec.terms:
        return Start(_error(block, examples, examples.wanted), 'nothing to solve for')
    width = (spec.terms[0][0]).out_channels
    if width != examples.y[0].shape[1]:
        return _start_narrow(block, spec, examples, ridge, old, mixing, code)
    signed = spec.relu and not examples.relu
    lifted = lift(examples.y) if signed and may_lift else None

    def wanted(y: Tensor) -> Tensor:
        return y if lifted is None else y + lifted.to(y.dtype)[:, None, None]

    way = _solve(block, spec, examples, wanted, ridge, old)
    if signed and lifted is None and spec.skip is None and all(norm is not None for _, norm in spec.terms):
        _fit_through_relu(block, spec, examples)
        way += ', scaled for its ReLU'
    if lifted is not None:
        way += ', lifted'
    return Start(_error(block, examples, lambda y: wanted(examples.wanted(y))), way, lifted=lifted)


def _solve(
    block: nn.Module, spec: Solvable, examples: Examples, wanted: Wanted, ridge: float, old: nn.Module | None
) -> str:
    """Set all layers, the first ones in the way that leaves the smallest residual; return the way's name."""
    if not spec.hidden:
        solve_last(block, spec, examples, wanted, ridge)
        return 'solved'
    some = examples.fewer(sum(patch_size(conv) for conv, _ in spec.terms))
    best, way, state = float('inf'), '', None
    for name in first_layers(block, spec, some, wanted, ridge, old):
        error = solve_last(block, spec, some, wanted, ridge).error
        if state is None or error < best:
            best, way, state = error, name, copy.deepcopy(block.state_dict())
    block.load_state_dict(state)
    solve_last(block, spec, examples, wanted, ridge)
    return f'first layers: {way}'


def _start_narrow(
    block: nn.Module,
    spec: Solvable,
    examples: Examples,
    ridge: float,
    old: nn.Module | None,
    mixing: bool,
    code: Code | None,
) -> Start:
    width = spec.terms[0][0].out_channels
    some = examples.fewer(sum(patch_size(conv) for conv, _ in spec.terms))

    def solve(code: Code, on: Examples) -> Start:
        way = _solve(block, spec, on, lambda y: code.of(y, on.wanted(y)), ridge, old)
        return Start(expansion(block, on), f'{code.name}, {way}', code)

    if code is None:
        leading = None
        if mixing and not spec.hidden and spec.skip is None:
            leading = _leading(block, spec, some, ridge).leading(width)
        skip = None if spec.skip is None else [spec.skip(x) for x in some.x]
        tried = [solve(each, some) for each in codes(some, width, spec.relu, mixing, leading, skip)]
        code = min(tried, key=lambda start: start.error).code
    return solve(code, examples)


def _leading(block: nn.Module, spec: Solvable, examples: Examples, ridge: float) -> Fit:
    sums = None
    for u, y in regression_rows(block, spec, examples, examples.wanted):
        sums = sums or LeastSquares(u.shape[1], y.shape[1], u.device)
        sums.add(u, y)
    return sums.solve(ridge)


def expansion(block: nn.Module, examples: Examples) -> float:
    """Return the relative error of the best linear expansion of what ``block`` gives to the teacher's output."""
    sums = None
    for x, y in examples.chunks(1):
        z, y = rows(block(x.clone())), rows(examples.wanted(y))
        if sums is None:
            sums, sampler = LeastSquares(z.shape[1], y.shape[1], z.device), Sampler(examples.positions, z.shape[1])
        sums.add(*sampler(z, y))
    return sums.solve(1e-6).error


def _fit_through_relu(block: nn.Module, spec: Solvable, examples: Examples) -> None:
    weight = torch.cat([conv.weight.flatten(1) for conv, _ in spec.terms], 1)
    p, t = [], []
    for u, y in regression_rows(block, spec, examples, examples.wanted):
        p.append(u @ weight.T)
        t.append(y)
    p, t = torch.cat(p), torch.cat(t)
    constant = sum(norm.bias - norm.running_mean for _, norm in spec.terms)  # the norms' scale is 1 in eval mode
    rescale(spec, *best_affine(p + constant, t))


def _error(block: nn.Module, examples: Examples, wanted: Callable[[Tensor], Tensor]) -> float:
    squared, n, total, squares = 0.0, 0, 0.0, 0.0
    for x, y in examples.chunks(1):
        t = rows(wanted(y)).double()
        squared += (rows(block(x.clone())).double() - t).square().sum().item()
        n, total, squares = n + len(t), total + t.sum(0), squares + t.square().sum(0)
    return squared / max((squares - total * total / n).sum().item(), 1e-30)
