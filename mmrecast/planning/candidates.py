"""What each block of a chain may become: kept, or one of the targets, at each width that its neighbours can take."""

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from mmrecast.registry import BLOCKS
from mmrecast.surgery.apply import apply_step
from mmrecast.surgery.chain import Chain, ChainBlock, Shape, find_chain
from mmrecast.surgery.describe import rebuild
from mmrecast.surgery.plan import make_plan, target_class
from mmrecast.surgery.spans import block_at
from mmrecast.utils.modules import untouched

TARGETS = (
    dict(type='ConvBlock'),
    dict(type='ConvBlock', kernel_size=1),
    dict(type='BasicBlock'),
    dict(type='Bottleneck'),
    dict(type='DepthwiseSeparable'),
    dict(type='Skip'),
)
OF_THE_NETWORK = frozenset({'in_channels', 'out_channels', 'width_ratio', 'stride'})
RATIOS = (1.0, 0.75, 0.5, 0.25)

_T = TypeVar('_T')


@dataclass(frozen=True)
class Candidate:
    """One thing that a block may become, at certain widths.

    Args:
        path (str): Where the block stands.
        target (dict, optional): Complete config of a target, for ``BLOCKS``; None: the teacher's block is kept, and
            rebuilt where ``in_channels`` is another width.
        in_channels, out_channels (int): Widths in the student.
        enters, leaves (int): Widths that must agree with the candidates of the neighbours: ``in_channels``, and
            ``out_channels`` or, where glue behind the block restores the teacher's width, that.
    """

    path: str
    target: dict | None
    in_channels: int
    out_channels: int
    enters: int
    leaves: int

    @property
    def name(self) -> str:
        """str: For tables: 'ConvBlock 16→8', 'kept 16→16'."""
        if self.target is None:
            return f'kept {self.in_channels}→{self.out_channels}'
        own = {k: v for k, v in self.target.items() if k not in ('type', 'in_channels', 'out_channels', 'stride')}
        more = f' ({", ".join(f"{k}={v}" for k, v in own.items())})' if own else ''
        return f'{self.target["type"]}{more} {self.in_channels}→{self.out_channels}'

    @property
    def rule(self) -> dict | None:
        """dict | None: The rule of a recipe that makes it, None where the block is kept."""
        if self.target is None:
            return None
        target = {key: value for key, value in self.target.items() if key not in ('in_channels', 'stride')}
        return dict(source=self.path, target=target)


def candidates_of(
    network: nn.Module,
    input_shape: Shape,
    targets: Sequence[dict | str] = TARGETS,
    ratios: Sequence[float] = RATIOS,
    keep: bool = True,
    blocks: Sequence[str] = (),
) -> list[list[Candidate]]:
    """List what every block of the network's chain may become.

    Args:
        network (nn.Module): The teacher, or an untrained network like it; it is left as it is.
        input_shape (tuple[int]): (C, H, W).
        targets (Sequence[dict | str]): Targets to try, as in a recipe but without widths. Defaults to convolutions (3x3
            and 1x1), basic and bottleneck blocks, depthwise separable ones, and leaving the block out.
        ratios (Sequence[float]): Widths to try, over the teacher's. Defaults to 1, 3/4, 1/2 and 1/4.
        keep (bool): Whether a block may stay the teacher's. Defaults to True.
        blocks (Sequence[str]): Patterns of sources that must be in the chain, as a recipe names them. Defaults to none.

    Returns:
        list[list[Candidate]]: One list per block, in the order of the chain.

    Raises:
        ValueError: A ratio is not in (0, 1], a target sets a width itself, the network has no chain, or nothing at all
            fits a block.
        KeyError: A target type is not registered.
    """
    targets, ratios = _checked(targets, ratios)
    chain = find_chain(network, input_shape, tuple(blocks))
    if not chain.blocks:
        raise ValueError(f'{type(network).__name__} has no chain of blocks: name its blocks (blocks=…)')
    kinds = [_kind(network, chain, i) for i in range(len(chain.blocks))]
    joints = _once_each(kinds, lambda i: _joint(network, chain, i, ratios))
    widths = [
        before.widths if before.passed_on else (block.in_shape[0],)
        for before, block in zip([_Joint((), False), *joints[:-1]], chain.blocks, strict=True)
    ]
    made = _once_each(
        list(zip(kinds, widths, joints, strict=True)),
        lambda i: _made(network, chain, i, widths[i], _complete(network, chain, i, targets, joints[i].widths), keep),
    )
    found = []
    for i, block in enumerate(chain.blocks):
        next_width = None if joints[i].passed_on else _next_width(chain, i)
        own = [
            Candidate(block.path, target and dict(target), width, out, width, next_width or out)
            for width, target, out in made[i]
        ]
        if not own:
            why = f': {block.why}' if block.source is None else ''
            raise ValueError(f'nothing fits block {block.path!r}{why}; give other targets, or keep=True')
        found.append(own)
    return found


def _kind(network: nn.Module, chain: Chain, i: int) -> Hashable:
    """Return what decides on what block i may become: how it, its glue and the next block are made."""
    both = chain.blocks[i : i + 2]
    modules = [block_at(network, block.path, block.span) for block in both]
    glue = [network.get_submodule(path) for path in chain.blocks[i].glue]
    return repr([(b.source, b.in_shape, b.out_shape, len(b.span)) for b in both] + modules + glue)


def _once_each(kinds: Sequence[Hashable], step: Callable[[int], _T]) -> list[_T]:
    """Return ``step(i)`` for every i; those of one kind share what it gave for the first of them."""
    found: dict[Hashable, _T] = {}
    for i, kind in enumerate(kinds):
        if kind not in found:
            found[kind] = step(i)
    return [found[kind] for kind in kinds]


@dataclass(frozen=True)
class _Joint:
    """Widths that a block may give, and whether the next block reads them as they are."""

    widths: tuple[int, ...]
    passed_on: bool


def _checked(targets: Sequence[dict | str], ratios: Sequence[float]) -> tuple[list[dict], list[float]]:
    targets = [dict(type=target) if isinstance(target, str) else dict(target) for target in targets]
    for target in targets:
        target_class(str(target.get('type')))
        taken = OF_THE_NETWORK & set(target)
        if taken:
            raise ValueError(f'a candidate takes its widths and stride from the network: leave {min(taken)} out')
    for ratio in ratios:
        number = isinstance(ratio, int | float) and not isinstance(ratio, bool) and math.isfinite(ratio)
        if not number or not 0 < ratio <= 1:
            raise ValueError(f'a ratio of widths must be above 0 and at most 1, got {ratio!r}')
    return targets, sorted({1.0, *map(float, ratios)}, reverse=True)


def _next_width(chain: Chain, i: int) -> int:
    block = chain.blocks[i]
    return chain.blocks[i + 1].in_shape[0] if i + 1 < len(chain.blocks) else block.out_shape[0]


def _joint(network: nn.Module, chain: Chain, i: int, ratios: Sequence[float]) -> _Joint:
    """Try whether the width behind block i can change, with a convolution in its place."""
    block, full = chain.blocks[i], chain.blocks[i].out_shape[0]
    passed_on = i + 1 < len(chain.blocks) and chain.blocks[i + 1].in_shape[0] == full
    widths = tuple(dict.fromkeys(max(int(full * ratio + 0.5), 1) for ratio in ratios))
    if block.source is None or len(widths) < 2:
        return _Joint((full,), passed_on)
    recipe = [dict(source=block.path, target=dict(type='ConvBlock', out_channels=widths[-1]))]
    try:
        plan = make_plan(network, recipe, chain.input_shape, chain)
        apply_step(copy.deepcopy(network), plan, i)
    except ValueError:
        return _Joint((full,), passed_on)
    if i + 1 < len(chain.blocks):
        passed_on = plan.entries[i + 1].in_channels == widths[-1]
    return _Joint(widths, passed_on)


def _complete(
    network: nn.Module, chain: Chain, i: int, targets: Sequence[dict], outs: Sequence[int]
) -> list[tuple[dict, int]]:
    """Return the (complete config, width) pairs of what a recipe could have in the place of block i."""
    if chain.blocks[i].source is None:
        return []
    found = []
    for target in targets:
        for out in outs:
            recipe = [dict(source=chain.blocks[i].path, target=target | dict(out_channels=out))]
            try:
                found.append((make_plan(network, recipe, chain.input_shape, chain).entries[i].target, out))
            except (TypeError, ValueError):
                continue  # it replaces other kinds of blocks, or a block of the user's takes no such source
    return found


def _made(
    network: nn.Module, chain: Chain, i: int, widths: Sequence[int], targets: Sequence[tuple[dict, int]], keep: bool
) -> list[tuple[int, dict | None, int]]:
    """Return the (width, target, width) triples that work as block i: what it reads, what it becomes, what it gives."""
    block = chain.blocks[i]
    made: list[tuple[int, dict | None, int]] = []
    for width in widths:
        if keep and _can_be_kept(network, block, width):
            made.append((width, None, block.out_shape[0]))
        for target, out in targets:
            complete = target | dict(in_channels=width)
            try:
                built = BLOCKS.build(dict(complete))
            except Exception:  # a block of the user's may raise anything where it has no form of these widths
                continue
            if _fits(built, (width, *block.in_shape[1:]), (out, *block.out_shape[1:])):
                made.append((width, complete, out))
    return made


def _can_be_kept(network: nn.Module, block: ChainBlock, width: int) -> bool:
    if width == block.in_shape[0]:
        return True
    if block.span:
        return isinstance(block_at(network, block.path), nn.Conv2d)
    try:
        rebuild(block_at(network, block.path, block.span), width)
    except ValueError:
        return False
    return True


def _fits(module: nn.Module, given: Shape, wanted: Shape) -> bool:
    with untouched(module), torch.no_grad():
        try:
            return tuple(module(torch.zeros(2, *given)).shape[1:]) == wanted
        except Exception:  # a block of the user's may raise anything
            return False
