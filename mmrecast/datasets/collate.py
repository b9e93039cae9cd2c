"""Collate function for datasets that hand over whole batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmrecast.registry import FUNCTIONS


@FUNCTIONS.register_module()
def batch_collate(batch: dict[str, Tensor] | Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a batch as it is, or stack single items to one.

    Args:
        batch (dict | Sequence[dict]): What ``__getitems__`` returned, or a list of what ``__getitem__`` did.

    Returns:
        dict[str, Tensor]: Every entry with a leading batch dimension.

    Raises:
        TypeError: ``batch`` is neither.
    """
    if isinstance(batch, dict):
        return batch
    if isinstance(batch, Sequence) and batch and all(isinstance(item, dict) for item in batch):
        return {key: torch.stack([item[key] for item in batch]) for key in batch[0]}
    inside = f' of {type(batch[0]).__name__}' if isinstance(batch, Sequence) and len(batch) else ''
    raise TypeError(f'batch_collate was given {type(batch).__name__}{inside}, expected a dict or a list of dicts')
