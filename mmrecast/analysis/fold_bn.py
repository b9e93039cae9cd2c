"""Fold batch normalisation into the convolution before it, where the result is the same network.

::

    x ─ conv ─ y ─ BN ─ z      y read by BN alone, and each called once:  conv' = fold(conv, BN), BN' = identity
    x ─ BN ─ ReLU ─ conv       stays as it is (DenseNet, WRN: nothing before this BN could take it up)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmrecast.analysis.activations import run_network
from mmrecast.utils.modules import device_of, hooked, set_module, untouched

ROUNDING = 1e-3  # relative error above which two outputs are not the same but for rounding


@dataclass(frozen=True)
class Folding:
    """What :func:`fold_bn` did.

    Args:
        folded (int): BN layers that are gone.
        layers (int): BN layers that there were.
        difference (float): ‖logits after − logits before‖ / ‖logits before‖ on two random images.
    """

    folded: int
    layers: int
    difference: float


def fold_bn(network: nn.Module, input_shape: Sequence[int]) -> Folding:
    """Fold every BN layer that can be, in place; the folded ones become ``nn.Identity``, so that paths stay.

    A BN layer is folded if its input is the output of a convolution which nothing else reads, if both are called once
    in a forward pass, and if the folded convolution gives what the two gave.

    Args:
        network (nn.Module): Images (N, C, H, W) → logits; folded as it computes in eval mode.
        input_shape (tuple[int]): (C, H, W).

    Raises:
        ValueError: The network does not run with such images, or computes something else once folded.
    """
    images = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(1)).to(device_of(network))
    with untouched(network), torch.no_grad():
        before, pairs = _pairs(network, images)
        for (conv, bn), fused in pairs.items():
            set_module(network, conv, fused)
            set_module(network, bn, nn.Identity())
        after = network(images)
    layers = len(pairs) + sum(isinstance(module, _BatchNorm) for module in network.modules())
    difference = _difference(after, before)
    if not difference <= ROUNDING:
        raise ValueError(f'folding BN changes the output of {type(network).__name__} by {difference:.1e}: leave it out')
    return Folding(len(pairs), layers, difference)


class _Readers(TorchDispatchMode):
    """Note which of the watched tensors an operation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept: a freed one's id would come again
        self.read: set[str] = set()
        self.off = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.off:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and id(value) in self.watched:
                    self.read.add(self.watched[id(value)][0])
        return func(*args, **(kwargs or {}))


def _pairs(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[tuple[str, str], nn.Module]]:
    """Return the logits, and for each pair of paths (convolution, BN) the convolution that stands for both."""
    readers, calls = _Readers(), dict.fromkeys(network.modules(), 0)
    inputs: dict[str, Tensor] = {}
    met: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}  # what the pair was given, and what it gave

    def of_conv(path: str):
        def hook(conv, args, out):
            calls[conv] += 1
            readers.watched[id(out)], inputs[path] = (path, out), args[0]

        return hook

    def enter_bn(bn, args):
        readers.off = True

    def of_bn(path: str):
        def hook(bn, args, out):
            calls[bn] += 1
            conv_path = readers.watched.get(id(args[0]), ('',))[0]
            if conv_path:  # copies: what follows may work in place
                met[conv_path, path] = inputs[conv_path].clone(), out.clone()
            readers.off = False

        return hook

    convs = {path: m for path, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    norms = {path: m for path, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    handles = [conv.register_forward_hook(of_conv(path)) for path, conv in convs.items()]
    for path, bn in norms.items():
        handles += [bn.register_forward_pre_hook(enter_bn), bn.register_forward_hook(of_bn(path))]
    with hooked(handles), readers:
        logits = run_network(network, images)
    pairs, readings = {}, Counter(conv for conv, _ in met)
    for (conv, bn), (given, gave) in met.items():
        once = calls[convs[conv]] == calls[norms[bn]] == readings[conv] == 1 and conv not in readers.read
        if once and norms[bn].running_mean is not None:
            fused = fuse_conv_bn_eval(convs[conv], norms[bn])
            if _difference(fused(given), gave) <= ROUNDING:
                pairs[conv, bn] = fused
    return logits, pairs


def _difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm().clamp_min(torch.finfo(other.dtype).tiny)).item()
