"""Torchvision's classifiers by name."""

from collections.abc import Iterable

from torch import nn

from mmrecast.models.load import load_weights
from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['TorchvisionClassifier']


@MODELS.register_module()
def TorchvisionClassifier(name: str, weights: str | None = None, num_classes: int = 1000, **kwargs) -> nn.Module:
    """Return torchvision's plain network, in which paths are torchvision's own (``layer1.0``).

    Args:
        name (str): A classifier of ``torchvision.models`` (``'resnet50'``).
        weights (str | None): Path of a checkpoint (``*.pt``, ``*.pth``), or one of torchvision's own names
            (``'IMAGENET1K_V1'``, ``'DEFAULT'``), which downloads it. Defaults to None: PyTorch's
            initialisation.
        num_classes (int): Number of classes. Defaults to 1000.
        **kwargs: Further arguments of torchvision's function.

    Raises:
        ValueError: Torchvision has no such classifier or weights, or the weights do not fit.
        FileNotFoundError: There is no such checkpoint.
    """
    from torchvision import models  # takes a second, and is needed by those alone who name such a network

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f'torchvision has no classifier {name!r}{nearest(str(name), known)}')
    if weights is None or names_file(weights, name, models.get_model_weights(name).__members__):
        network = models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
        return network if weights is None else load_weights(network, weights)
    return models.get_model(name, weights=weights, num_classes=num_classes, **kwargs)


def names_file(weights: str, network: str, published: Iterable[str]) -> bool:
    """Tell whether ``weights`` is the path of a checkpoint; otherwise it is ``'DEFAULT'`` or in ``published``.

    Args:
        weights (str): What was given.
        network (str): Name of the network, for the error.
        published (Iterable[str]): Names of the weights that the network's library offers for download.

    Raises:
        ValueError: ``weights`` is none of these.
    """
    if str(weights).endswith(('.pt', '.pth')):
        return True
    names = [*published]
    names += ['DEFAULT'] if names else []
    if weights in names:
        return False
    offered = nearest(str(weights), names) or ', for which none are published'
    raise ValueError(f'{network} has no weights {weights!r}{offered}; a checkpoint ends in .pt or .pth')
