"""Rename the entries of a He-style CIFAR ResNet to those of ``CifarResNet`` in a classifier, and back."""

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ['convert_cifar_resnet', 'is_he_style', 'revert_cifar_resnet', 'strip_prefix']

_TRUNK = re.compile(r'(conv1|bn1|layer[123]\.\d+\.(conv[123]|bn[123]|shortcut\.[01]))\.\w+')


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose name begins with ``prefix``, without it.

    Args:
        state_dict (Mapping[str, Tensor]): A network's state.
        prefix (str): What to take away, its last dot included.
    """
    return {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}


def is_he_style(state_dict: Mapping[str, Tensor]) -> bool:
    """Tell whether all names are ``conv1, bn1, layer{1,2,3}.N.{conv,bn}{1,2,3}, …shortcut.{0,1}, linear``."""
    return 'linear.weight' in state_dict and all(_TRUNK.fullmatch(k) or _is_linear(k) for k in state_dict)


def convert_cifar_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename ``conv1``, ``bn1``, ``layer1.0.conv1``, …, ``linear`` to ``backbone.*`` and ``head.fc.*``.

    Args:
        state_dict (Mapping[str, Tensor]): State of the plain network; a ``module.`` before every name is
            taken away.

    Raises:
        ValueError: A name does not belong to such a network.
    """
    if state_dict and all(k.startswith('module.') for k in state_dict):
        state_dict = strip_prefix(state_dict, 'module.')
    converted = {}
    for key, value in state_dict.items():
        if _is_linear(key):
            converted['head.fc' + key[len('linear') :]] = value
        elif _TRUNK.fullmatch(key):
            converted[f'backbone.{key}'] = value
        else:
            raise ValueError(f'{key!r} is no entry of a He-style CIFAR ResNet (conv1, bn1, layer1-3, linear)')
    return converted


def revert_cifar_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo ``convert_cifar_resnet``.

    Args:
        state_dict (Mapping[str, Tensor]): State of a classifier with a ``CifarResNet`` as its backbone.

    Raises:
        ValueError: A name does not belong to such a classifier.
    """
    reverted = {}
    for key, value in state_dict.items():
        plain = re.sub(r'^backbone\.', '', re.sub(r'^head\.fc\.', 'linear.', key))
        if plain == key or not (_TRUNK.fullmatch(plain) or _is_linear(plain)):
            raise ValueError(f'{key!r} is no entry of a classifier with a CifarResNet (backbone.*, head.fc.*)')
        reverted[plain] = value
    return reverted


def _is_linear(key: str) -> bool:
    return key in ('linear.weight', 'linear.bias')
