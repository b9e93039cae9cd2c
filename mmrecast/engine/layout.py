"""The layout of images in memory, where torch's convolutions cannot be trusted with the one that was asked for."""

from collections.abc import Iterator

import torch
from torch import nn

NARROW = 8  # channels: one AVX2 register of float32


def broken_by_layout(model: nn.Module) -> str | None:
    """Return a layer whose backward pass would write beyond torch's buffers in channels_last; None in general.

    On a CPU with AVX2 but without AVX-512, the gradient for the input of a 1x1 convolution with a stride and fewer
    than eight input channels does (torch 2.13 with oneDNN 3.12; images of even height and width; the layout
    (N, C, H, W) is not affected), and the process ends sooner or later.
    """
    if torch.backends.cpu.get_cpu_capability() != 'AVX2':
        return None
    return next((repr(layer) for layer in _layers(model) if _spoils(layer)), None)


def avoid_broken_layout(model: nn.Module) -> str | None:
    """Turn ``channels_last`` of the preprocessor off where torch cannot train with it.

    Args:
        model (nn.Module): Algorithm on its device, as a stage begins.

    Returns:
        str | None: The layer because of which it was turned off; None in general.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if not getattr(preprocessor, 'channels_last', False):
        return None
    found = broken_by_layout(model)
    preprocessor.channels_last = found is None
    return found


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules, and those of networks that a module holds without being their parent."""
    for module in model.modules():
        yield module
        for held in vars(module).values():
            if isinstance(held, nn.Module):
                yield from held.modules()


def _spoils(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.weight.is_cuda:  # names of another's weights may be on no device
        return False
    return max(layer.kernel_size) == 1 and max(layer.stride) > 1 and layer.in_channels // layer.groups < NARROW
