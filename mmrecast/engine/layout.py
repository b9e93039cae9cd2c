"""The layout of images in memory, where torch's convolutions cannot be trusted with the one that was asked for."""

import torch
from torch import nn

NARROW = 8  # channels: one AVX2 register of float32


def avoid_broken_layout(model: nn.Module) -> list[str]:
    """Turn ``channels_last`` of the preprocessor off where torch would write beyond its buffers, which ends a process.

    On a CPU with AVX2 but without AVX-512, the gradient for the input of a 1x1 convolution with a stride and fewer
    than eight input channels does (torch 2.13 with oneDNN 3.12; images of even height and width; the layout
    (N, C, H, W) is not affected).

    Args:
        model (nn.Module): Algorithm on its device.

    Returns:
        list[str]: Paths of the layers because of which it was turned off; none in general.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if not getattr(preprocessor, 'channels_last', False) or torch.backends.cpu.get_cpu_capability() != 'AVX2':
        return []
    found = [path for path, layer in model.named_modules() if _spoils(layer)]
    preprocessor.channels_last = not found
    return found


def _spoils(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.weight.device.type != 'cpu':
        return False
    return max(layer.kernel_size) == 1 and max(layer.stride) > 1 and layer.in_channels // layer.groups < NARROW
