"""Bring what was unpickled from a stranger's file into plain form, and refuse what is far larger than the file.

A few bytes of pickle can stand for more than a machine holds: a list whose two items are one list whose two items …,
a tensor of one number expanded to 10¹² of them. Nothing of that takes memory until somebody copies or prints it.
"""

from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmrecast.utils.unpickling import Array, Dropped

DEPTH = 100  # of containers in one another; checkpoints have about ten
FREE = 1_000_000  # items and characters that a file of any size may stand for
PER_BYTE = 8  # and those per byte of it: what is shared counts each time it is met
_PLAIN = (type(None), bool, int, float, complex, torch.dtype, torch.device, torch.layout, np.generic)


class OversizeError(ValueError):
    """A file stands for more than it may."""


def settle(value: Any, size: int) -> Any:
    """Return what was unpickled in plain form.

    Arrays come in place of their stand-ins, functions that were dropped are left out, a parameter becomes a tensor, and
    an ``OrderedDict`` keeps of its attributes (which could hide its methods) only the ``_metadata`` of a state dict.

    Args:
        value: Nested containers, which are changed in place (tuples apart).
        size (int): Of the file, in bytes.

    Raises:
        OversizeError: It is nested in itself, or too deeply, or stands for much more than the file holds.
        ValueError: It holds a tensor that is not dense or not in memory, or an object of another kind.
    """
    return _Settling(size).settle(value, 0)[0]


class _Settling:
    def __init__(self, size: int) -> None:
        self.size, self.most = size, max(FREE, PER_BYTE * size)
        self.done: dict[int, tuple[Any, int]] = {}  # by id: what became of an object, and how many items it stands for
        self.kept: list[Any] = []  # keeps ids from being given anew

    def settle(self, value: Any, depth: int) -> tuple[Any, int]:
        """Return ``value`` in plain form, and how many items and characters it stands for."""
        if isinstance(value, _PLAIN):
            return value, 1
        if isinstance(value, str | bytes | bytearray):
            return value, 1 + len(value)
        found = self.done.get(id(value))
        if found is None:
            if depth == DEPTH:
                raise OversizeError(f'it is nested more than {DEPTH} deep')
            self.kept.append(value)
            self.done[id(value)] = value, self.most + 1  # what holds itself has no end
            found = self.done[id(value)] = self._object(value, depth + 1)
        if found[1] > self.most:
            raise OversizeError(f'it stands for far more than its {self.size:,} bytes hold')
        return found

    def _object(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, Array):
            return value.array, 1
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return value, 1
        if isinstance(value, Tensor):
            return self._tensor(value), 1
        if isinstance(value, HistoryBuffer):
            return value, self._dict(value.__dict__, depth)
        if isinstance(value, dict):
            if isinstance(value, OrderedDict | Counter):
                metadata = value.__dict__.get('_metadata')
                value.__dict__.clear()
                if _is_metadata(metadata):
                    value._metadata = metadata
            return value, self._dict(value, depth)
        if isinstance(value, list | tuple):
            items, count = [], 1
            for item in value:
                settled, inside = self.settle(item, depth)
                items.append(settled)
                count += inside
            if type(value) is tuple:
                return tuple(items), count
            if isinstance(value, list):
                value[:] = items
            return value, count
        if isinstance(value, set):
            return value, 1 + sum(self.settle(item, depth)[1] for item in value)
        if isinstance(value, torch.storage.TypedStorage | torch.UntypedStorage):
            raise ValueError('it holds a storage without its tensor')
        if isinstance(value, type):
            return value, 1  # a class that the pickle may name; it is not called
        raise ValueError(f'it holds a {type(value).__name__}')

    def _dict(self, content: dict, depth: int) -> int:
        for key in [key for key, item in content.items() if item is Dropped]:
            del content[key]
        count = 1
        for key, item in content.items():
            content[key], inside = self.settle(item, depth)
            count += inside + self.settle(key, depth)[1]
        return count

    def _tensor(self, tensor: Tensor) -> Tensor:
        if type(tensor) is not Tensor or tensor.__dict__:
            tensor = Tensor.detach(tensor)
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            raise ValueError('it holds a tensor that is not dense')
        if tensor.device.type == 'meta':
            raise ValueError('it holds a tensor without values')
        if tensor.numel() * tensor.element_size() > self.size:
            raise OversizeError(f'it has {self.size:,} bytes, and a tensor in it is of shape {tuple(tensor.shape)}')
        return tensor


def _is_metadata(value: object) -> bool:
    """Tell whether it is what ``state_dict()`` notes: the version of every module, by path."""
    return isinstance(value, dict) and all(
        isinstance(path, str) and isinstance(note, dict) and set(note) <= {'version'} and
        all(type(version) is int for version in note.values())
        for path, note in value.items()
    )  # fmt: skip
