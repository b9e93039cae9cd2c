"""Build a network that a stranger's file describes within a bound on its memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mmrecast.utils.mistakes import explain

FREE = 1 << 30  # bytes
PER_BYTE = 32  # of the weights: a student may be far smaller than the network that it is made of
TENSORS = 100_000  # made in all; a ResNet-1001 makes some ten thousand


@contextmanager
def bounded_building(what: str, weights: int) -> Iterator[None]:
    """Make networks inside only as large as befits a file with ``weights`` bytes of weights.

    Every operation is first asked, on tensors without memory, what it would give.

    Args:
        what (str): For the message: what is built.
        weights (int): In bytes.

    Raises:
        ValueError: It would take more than 1 GiB and 32 times the weights, or cannot be built.
    """
    bound = _Bound(FREE + PER_BYTE * weights)
    try:
        with bound:
            yield
    except Exception as error:  # a constructor may hand any argument to any class
        if bound.left < 0:
            reason = f'it would take more than {bound.most >> 20:,} MiB'
        elif bound.tensors > TENSORS:
            reason = f'it would have more than {TENSORS:,} tensors'
        else:
            reason = explain(error)
        raise ValueError(f'{what} cannot be built: {reason}') from error


class _Bound(TorchDispatchMode):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = self.left = most
        self.tensors = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if not any(given.alias_info for given in func._schema.returns):  # neither in place nor a view
            self.left -= _bytes_of(func, args, kwargs)
            self.tensors += 1
            if self.left < 0 or self.tensors > TENSORS:
                raise MemoryError
        return func(*args, **kwargs)


def _bytes_of(func: Any, args: tuple, kwargs: dict) -> int:
    """Return how large the tensors are that ``func`` would make; 0 where it cannot tell without their values."""
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to('meta'), (args, kwargs))
    if any(argument.name == 'device' for argument in func._schema.arguments):
        kwargs = kwargs | dict(device=torch.device('meta'))
    try:
        made = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0
    made = made if isinstance(made, tuple | list) else [made]
    return sum(one.numel() * one.element_size() for one in made if isinstance(one, Tensor))
