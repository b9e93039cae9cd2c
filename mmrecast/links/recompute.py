"""Forward passes in which blocks keep their inputs alone: what is inside is computed again in the backward pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmrecast.utils.modules import get_module


@contextmanager
def recomputing(network: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Let the modules at ``paths`` compute again in the backward pass what they do while the context lasts.

    They give the same outputs, gradients and buffers, and draw the same random numbers (Chen et al., "Training Deep
    Nets with Sublinear Memory Cost", 2016). Hooks on them run once. A module without others in it is left as it is: it
    would keep no less. What a module computes in training must not depend on its buffers.

    Args:
        network (nn.Module): Its modules get a ``forward`` of their own meanwhile, which no copy must be made of.
        paths (Iterable[str]): Modules none of which lies in another one.

    Raises:
        KeyError: A path does not exist.
    """
    chosen = [module for module in (get_module(network, path) for path in paths) if list(module.children())]
    former = [(module, vars(module).get('forward')) for module in chosen]
    try:
        for module in chosen:
            module.forward = partial(_recomputed, module, module.forward)
        yield
    finally:
        for module, forward in former:
            vars(module).pop('forward', None)
            if forward is not None:
                module.forward = forward


def _recomputed(module: nn.Module, forward: Callable, *args, **kwargs) -> object:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple:
        return nullcontext(), _writing_to_copies(module)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _writing_to_copies(module: nn.Module) -> Iterator[None]:
    """Let what trains in ``module`` update copies of its buffers: running statistics have seen the batch already."""
    buffers = [(part, dict(part._buffers)) for part in module.modules() if part.training and part._buffers]
    for part, own in buffers:
        part._buffers.update({name: None if buffer is None else buffer.clone() for name, buffer in own.items()})
    try:
        yield
    finally:
        for part, own in buffers:
            part._buffers.update(own)
