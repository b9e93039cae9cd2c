"""Keep the activations of an untrained network at the size they have in a trained one.

Without it they die out layer by layer (27 convolutions of PyTorch's initialisation leave 1e-13); numbers below the
smallest normal one are slow on a CPU and would be measured as the network's own latency.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrecast.utils.modules import device_of, hooked

IMAGES = 4


@torch.no_grad()
def fill_statistics(network: nn.Module, input_shape: Sequence[int]) -> nn.Module:
    """Set the running statistics of every BN layer to those of four random images, in place, and return the network.

    Args:
        network (nn.Module): An untrained network, images (N, C, H, W) → logits.
        input_shape (tuple[int]): (C, H, W).

    Raises:
        ValueError: The network does not run with such images.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return network
    modes, momenta = [m.training for m in norms], [m.momentum for m in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    try:
        run_network(network, _noise(network, IMAGES, input_shape))
    finally:
        for norm, mode, momentum in zip(norms, modes, momenta, strict=True):
            norm.training, norm.momentum = mode, momentum
    return network


@torch.no_grad()
def subnormal_activations(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return how many numbers that the network's layers put out for one random image are subnormal, in eval mode.

    Args:
        network (nn.Module): Images (N, C, H, W) → logits, in eval mode.
        input_shape (tuple[int]): (C, H, W).

    Raises:
        ValueError: The network does not run with such images.
    """
    found = 0

    def hook(module, args, out):
        nonlocal found
        if isinstance(out, Tensor) and out.is_floating_point():
            found += int(((out != 0) & (out.abs() < torch.finfo(out.dtype).tiny)).sum())

    leaves = [m for m in network.modules() if not any(True for _ in m.children())]
    with hooked([m.register_forward_hook(hook) for m in leaves]):
        run_network(network, _noise(network, 1, input_shape))
    return found


def run_network(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's logits.

    Raises:
        ValueError: It does not run with images (N, C, H, W) of this shape.
    """
    try:
        return network(images)
    except Exception as error:  # a network of the user's may raise anything
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        shape = tuple(images.shape[1:])
        raise ValueError(f'{type(network).__name__} does not take an input of {shape}: {line}') from error


def _noise(network: nn.Module, images: int, input_shape: Sequence[int]) -> Tensor:
    return torch.rand(images, *input_shape, generator=torch.Generator().manual_seed(0)).to(device_of(network))
