"""Small operations on ``nn.Module`` trees that several layers need."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mmrecast.utils.names import nearest


def get_module(network: nn.Module, path: str) -> nn.Module:
    """Return the submodule at ``path``.

    Raises:
        KeyError: There is none; the message lists the nearest paths.
    """
    try:
        if path:
            return network.get_submodule(path)  # links ask at every step: no listing of all modules
    except AttributeError:
        pass
    known = filter(None, dict(network.named_modules()))
    raise KeyError(f'{type(network).__name__} has no module {path!r}{nearest(path, known)}')


def set_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the one at ``path``, under every name by which the network holds that one.

    Raises:
        KeyError: Nothing stands there.
    """
    old = get_module(network, path)
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = module


@contextmanager
def untouched(network: nn.Module, training: bool | None = False) -> Iterator[nn.Module]:
    """Put ``network`` in eval mode (None: leave its modes) and give back every mode and buffer afterwards.

    Flags are set one by one: a ``train()`` of the network's own may do more than that (mmpretrain's freezes stages).
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in network.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        for module, mode in modes:
            module.training = mode if training is None else training
        yield network
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, kept in buffers:
                module._buffers[name] = buffer if buffer is None else buffer.copy_(kept)


@contextmanager
def hooked(handles: list) -> Iterator[None]:
    """Remove the hook ``handles`` on leaving, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer, the CPU where there is none."""
    tensor = next(network.parameters(), next(network.buffers(), None))
    return torch.device('cpu') if tensor is None else tensor.device


@torch.no_grad()
def xavier_init(module: nn.Module) -> nn.Module:
    """Initialise ``module`` afresh as Network Recasting does (Xavier uniform; Glorot and Bengio, 2010).

    Weights of convolutions and fully connected layers are drawn, biases are zero, normalisation layers start as the
    identity with empty statistics. Other parameters keep their values unless their module has ``reset_parameters``.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif hasattr(layer, 'reset_parameters'):
            layer.reset_parameters()
    return module
