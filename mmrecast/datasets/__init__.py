"""Datasets that hand over whole batches of uint8 tensors, and the preprocessor that augments such batches."""

from .base import TensorDataset
from .cifar import CIFAR10, CIFAR100
from .collate import batch_collate
from .digits import Digits
from .preprocessor import BatchPreprocessor

__all__ = ['CIFAR10', 'CIFAR100', 'BatchPreprocessor', 'Digits', 'TensorDataset', 'batch_collate']
