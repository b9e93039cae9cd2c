"""Which parts of a block are solved for, as its ``solvable()`` tells, and what they read."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrecast.blocks.solvable import Solvable
from mmrecast.utils.modules import hooked


def parts_of(block: nn.Module) -> list[nn.Module]:
    """Return the blocks that are solved one after another: those of a sequence without a ``solvable`` of its own."""
    alone = _told(block) is not None or not isinstance(block, nn.Sequential) or not len(block)
    return [block] if alone else list(block)


def solvable_of(block: nn.Module) -> Solvable:
    """Return what ``block`` tells of itself; a pair (conv, norm) stands for ``ReLU(norm(conv(x)))``.

    Raises:
        ValueError: It does not take part, or tells of layers that cannot be solved for.
    """
    told, name = _told(block), type(block).__name__
    if told is None:
        raise ValueError(f'{name}.solvable() tells of no convolution that least squares could solve for')
    if isinstance(told, tuple) and len(told) == 2:
        told = Solvable(terms=(told,))
    if not isinstance(told, Solvable) or not (told.terms or (told.skip is not None and not told.hidden)):
        raise ValueError(f'{name}.solvable() must give a Solvable with terms, or (conv, norm), got {told!r}')
    for conv, norm in (*told.terms, *told.hidden):
        if not isinstance(conv, nn.Conv2d) or not (norm is None or isinstance(norm, nn.BatchNorm2d)):
            kinds = f'{type(conv).__name__} and {type(norm).__name__}'
            raise ValueError(f'{name}.solvable() must pair a Conv2d with a BatchNorm2d or None, got {kinds}')
        if norm is not None and not (norm.affine and norm.track_running_stats):
            raise ValueError(f'{name}.solvable() needs norms with weights and running statistics')
    if any(conv.groups != 1 for conv, _ in told.terms):
        raise ValueError(f'{name}.solvable() has a last convolution with groups, which is not solved for')
    for conv, norm in told.hidden:
        if norm is None or conv.groups not in (1, conv.in_channels):
            raise ValueError(f'{name}.solvable() has a hidden convolution without a norm, or with groups of channels')
    return told


def _told(block: nn.Module) -> object:
    return getattr(block, 'solvable', lambda: None)()


@torch.no_grad()
def inputs_of(block: nn.Module, layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Return what each of ``layers`` reads when ``block`` runs on ``x``."""
    seen: dict[int, Tensor] = {}

    def note(i: int):
        return lambda module, args: seen.__setitem__(i, args[0].clone())

    with hooked([layer.register_forward_pre_hook(note(i)) for i, layer in enumerate(layers)]):
        block(x.clone())  # it may work in place
    return [seen[i] for i in range(len(layers))]
