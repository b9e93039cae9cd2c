"""A function of ``torch.nn.functional`` or a layer of ``torch.nn`` as a connector."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.utils.mistakes import explained
from mmrecast.utils.names import nearest

__all__ = ['TorchFunctionalConnector', 'TorchNNConnector']

FUNCTIONS = (
    'adaptive_avg_pool2d', 'adaptive_max_pool2d', 'avg_pool2d', 'dropout', 'dropout2d', 'interpolate', 'max_pool2d',
    'normalize', 'relu', 'softmax',
)  # fmt: skip
LAYERS = (
    'AdaptiveAvgPool2d', 'AdaptiveMaxPool2d', 'AvgPool2d', 'BatchNorm2d', 'Conv2d', 'Dropout', 'Dropout2d', 'Linear',
    'MaxPool2d', 'ReLU', 'Softmax',
)  # fmt: skip


def _checked(owner: nn.Module, argument: str, name: str | None, known: tuple[str, ...]) -> str:
    if name not in known:
        raise ValueError(f'{type(owner).__name__} does not offer {argument}={name!r}{nearest(str(name), known)}')
    return name


@MODELS.register_module()
class TorchFunctionalConnector(nn.Module):
    """A function of ``torch.nn.functional`` between a tap and a loss.

    The dropouts drop in eval mode, too, unless ``func_args`` has ``training=False``.

    Args:
        function_name (str): One of :data:`FUNCTIONS`; MMRazor's default of None is refused as there.
        func_args (dict): Its arguments behind the feature. Defaults to none.

    Raises:
        ValueError: There is no such function.
    """

    def __init__(self, function_name: str | None = None, func_args: dict = {}) -> None:
        super().__init__()
        self.function_name = _checked(self, 'function_name', function_name, FUNCTIONS)
        self.func_args = dict(func_args)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the function of the feature.

        Raises:
            TypeError: The function does not take ``func_args``.
        """
        with explained():
            return getattr(F, self.function_name)(feature, **self.func_args)


@MODELS.register_module()
class TorchNNConnector(nn.Module):
    """A layer of ``torch.nn`` between a tap and a loss.

    Args:
        module_name (str): One of :data:`LAYERS`; MMRazor's default of None is refused as there.
        module_args (dict): Its arguments. Defaults to none.

    Raises:
        ValueError: There is no such layer.
        TypeError: It does not take ``module_args``, or needs more.
    """

    def __init__(self, module_name: str | None = None, module_args: dict = {}) -> None:
        super().__init__()
        layer = getattr(nn, _checked(self, 'module_name', module_name, LAYERS))
        with explained():
            self.func = layer(**module_args)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the layer's output."""
        return self.func(feature)
