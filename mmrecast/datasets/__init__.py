"""Datasets that hand over whole batches of uint8 tensors, and the preprocessor that augments such batches."""

from .base import TensorDataset
from .cifar import CIFAR10, CIFAR100
from .collate import batch_collate
from .digits import Digits
from .imagenet import ImageNet
from .preprocessor import BatchPreprocessor

__all__ = ['CIFAR10', 'CIFAR100', 'BatchPreprocessor', 'Digits', 'ImageNet', 'TensorDataset', 'batch_collate']
