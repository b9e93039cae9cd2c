"""Losses: tensors in, a scalar out."""

from mmrecast.losses.cross_entropy import CrossEntropyLoss
from mmrecast.losses.mse import MSELoss

__all__ = ['CrossEntropyLoss', 'MSELoss']
