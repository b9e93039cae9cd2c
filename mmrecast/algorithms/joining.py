"""A block that trained apart from its student: what there is of it to keep, and how it comes into the student."""

from collections.abc import Collection

import torch
from torch import Tensor, nn


def state_of(network: nn.Module, modules: Collection[nn.Module]) -> dict[str, Tensor]:
    """Return copies, on the CPU, of the parameters and buffers that some of a network's modules hold themselves.

    Args:
        network (nn.Module): The network, which names them.
        modules (Collection[nn.Module]): Some of its modules; those inside them count only if they are named, too.
    """
    names = {
        f'{path}.{name}'.removeprefix('.')
        for path, module in network.named_modules()
        if module in modules
        for name in (*module._parameters, *module._buffers)
    }
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items() if name in names}


@torch.no_grad()
def load_block(network: nn.Module, path: str, state: dict[str, Tensor]) -> None:
    """Copy a block's ``state``, and what trained with it, into a network that has the block in its place.

    Args:
        network (nn.Module): The network.
        path (str): Where the block stands.
        state (dict[str, Tensor]): By the names they have in the network.

    Raises:
        ValueError: A name is not the network's, a shape is another, or something of the block is missing.
    """
    known = network.state_dict()
    missing = [name for name in known if f'{name}.'.startswith(f'{path}.') and name not in state]
    for name in missing:
        raise ValueError(f'what was trained for block {path!r} lacks {name!r}')
    for name, value in state.items():
        if name not in known or known[name].shape != value.shape:
            there = f'has {tuple(known[name].shape)} there' if name in known else 'has nothing of that name'
            raise ValueError(
                f'what was trained for block {path!r} does not fit: {name!r} of shape {tuple(value.shape)}, '
                f'the student {there}'
            )
    for name, value in state.items():
        known[name].copy_(value)
