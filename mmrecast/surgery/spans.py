"""Spans: the blocks of flat networks (VGG, AlexNet), in which convolutions, norms and activations stand side by side.

A span is a convolution with the norm and the activation that follow it, up to the next convolution or pooling, named by
its convolution. ``features.0, features.1, features.2`` (convolution, BN, ReLU) is the span ``features.0``.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmrecast.blocks.conv_block import ConvBlock
from mmrecast.utils.modules import get_module, hooked, untouched

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm)
_ACTIVATIONS = (
    'ReLU',
    'ReLU6',
    'LeakyReLU',
    'PReLU',
    'ELU',
    'SELU',
    'CELU',
    'GELU',
    'SiLU',
    'Mish',
    'Hardswish',
    'Tanh',
)
_FOLLOWERS = (*_NORMS, *(getattr(nn, name) for name in _ACTIVATIONS), nn.Identity)


def flat_convolutions(network: nn.Module) -> dict[str, list[str]]:
    """Return the convolutions of every flat part of ``network``, by the path of that part.

    A part is flat if it is an ``nn.Sequential`` whose children with weights are convolutions, convolution blocks (some
    spans may be recast already), norms and fully connected layers, at least two of them convolutions.
    """
    found = {}
    for path, parent in network.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        weighty = {name: child for name, child in parent.named_children() if next(child.parameters(), None) is not None}
        kinds = (nn.Conv2d, nn.Linear, ConvBlock, *_NORMS)
        convs = [name for name, child in weighty.items() if isinstance(child, nn.Conv2d)]
        mixed = sum(isinstance(child, nn.Conv2d | ConvBlock) for child in weighty.values())
        if convs and mixed > 1 and all(isinstance(child, kinds) for child in weighty.values()):
            found[path] = [f'{path}.{name}' if path else name for name in convs]
    return found


def between_convolutions(module: nn.Module) -> bool:
    """Tell whether ``module`` is one of PyTorch's that is no block of its own: norm, activation, pooling, dropout."""
    own = type(module).__module__.startswith('torch.nn.') and not list(module.children())
    return own and not isinstance(module, nn.Conv2d)


def siblings(network: nn.Module, named: Iterable[str]) -> list[str]:
    """Return the convolutions that stand in a flat part of ``network`` beside one of the ``named`` ones."""
    return [path for convs in flat_convolutions(network).values() if set(convs) & set(named) for path in convs]


def find_spans(network: nn.Module, convolutions: Iterable[str], images: Tensor) -> dict[str, tuple[str, ...]]:
    """Return what belongs to each convolution: the modules behind it, in calling order.

    They are the norms, activations and identities that a forward pass calls next, each once and on exactly what the one
    before it returned.

    Args:
        network (nn.Module): Images → logits.
        convolutions (Iterable[str]): Their paths.
        images (Tensor): (N, C, H, W) to run it on.
    """
    wanted = set(convolutions)
    if not wanted:
        return {}
    calls: list[tuple[str, nn.Module, object, object]] = []  # holding the tensors keeps their identities apart

    def note(path: str):
        return lambda module, args, out: calls.append((path, module, args[0] if args else None, out))

    leaves = [(path, m) for path, m in network.named_modules() if path and not list(m.children())]
    with hooked([m.register_forward_hook(note(path)) for path, m in leaves]), untouched(network), torch.no_grad():
        network(images)
    times = [module for _, module, _, _ in calls]
    spans = {}
    for i, (path, _, _, out) in enumerate(calls):
        if path not in wanted:
            continue
        span = []
        for next_path, module, given, returned in calls[i + 1 :]:
            if not isinstance(module, _FOLLOWERS) or given is not out or times.count(module) > 1:
                break
            span.append(next_path)
            out = returned
        spans[path] = tuple(span)
    return spans


def block_at(network: nn.Module, path: str, span: tuple[str, ...] = ()) -> nn.Module:
    """Return the block at ``path`` as one module: itself, or a sequence of itself and its span."""
    if not span:
        return get_module(network, path)
    return nn.Sequential(*(get_module(network, each) for each in (path, *span)))
