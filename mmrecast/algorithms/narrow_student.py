"""The small network of an adjoined pair on its own, untrained: what back propagation and distillers train."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from mmrecast.models import build_network, network_config, untrained
from mmrecast.registry import MODELS
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.student_file import Origin, build_source, is_weight_file
from mmrecast.surgery.width_rules import divisors_for
from mmrecast.surgery.widths import Widths, narrow, widths_of
from mmrecast.utils.modules import get_module


@MODELS.register_module(name='NarrowStudent')
def narrow_student(
    source: dict | str | nn.Module,
    alpha: int | Mapping[str, int] = 4,
    above: int = 64,
    rule: str = 'auto',
    exclude: Sequence[str] = (),
    input_shape: Sequence[int] = (3, 32, 32),
) -> nn.Module:
    """Build the small network that adjoining ``source`` gives, initialised as a network of those widths would be.

    No weight of a trained source is kept: it is built anew from its config. mmengine's modules then initialise the
    narrowed network themselves (``init_weights()``), by its own numbers of inputs and filters. Other libraries draw
    weights in the constructor, for the full widths, and so does ``RecastStudent``; of those the narrowed layers keep
    the first, times the root of how many times fewer inputs they read. A sum over fewer inputs then has the variance it
    has in the source, as PyTorch's and He's rules for that number of inputs have it. A rule that counts filters
    (torchvision's ResNets) gives the same where inputs and filters shrink alike; where one alone does, a BN follows.

    Args:
        source (dict | str | nn.Module): The full network, as for :class:`Distiller`; its weights, and an ``init_cfg``
            in its config, do not matter. A module is changed in place and begins as PyTorch's layers do.
        alpha, above, rule, exclude: See ``surgery.width_rules.divisors_for``.
        input_shape (tuple[int]): (C, H, W). Defaults to (3, 32, 32).

    Returns:
        nn.Module: The network, with its ``origin`` (:class:`Origin`) for `save_student`.

    Raises:
        ValueError: Nothing can be narrowed so, or a file holds no student.
        FileNotFoundError, TypeError, KeyError: See ``models.build_network``.
    """
    network, origin = _afresh(source)
    begun = isinstance(source, nn.Module) or hasattr(network, 'origin')
    widths = narrow_by(network, input_shape, alpha, above, rule, exclude, rescale=True)
    if isinstance(network, BaseModule) and not begun:
        network.init_weights()
    network.origin = origin.narrowed(widths)
    return network


@torch.no_grad()
def narrow_by(
    network: nn.Module,
    input_shape: Sequence[int],
    alpha: int | Mapping[str, int] = 4,
    above: int = 64,
    rule: str = 'auto',
    exclude: Sequence[str] = (),
    rescale: bool = False,
) -> Widths:
    """Narrow a network in place and return what is left of its layers.

    Args:
        network (nn.Module): Images → logits.
        input_shape (tuple[int]): (C, H, W).
        alpha, above, rule, exclude: See ``surgery.width_rules.divisors_for``.
        rescale (bool): Whether what a layer keeps of its weights grows as its inputs become fewer. Defaults to False.

    Raises:
        ValueError: Nothing can be narrowed so.
    """
    graph = trace_channels(network, input_shape)
    widths = widths_of(graph, divisors_for(graph, alpha, above, rule, exclude))
    before = {path: _inputs(get_module(network, path)) for path in widths.layers}
    narrow(network, widths)
    for path, inputs in before.items() if rescale else ():
        layer = get_module(network, path)
        for tensor in layer.parameters() if inputs else ():
            tensor.mul_((inputs / _inputs(layer)) ** 0.5)
    return widths


def _afresh(source: dict | str | nn.Module) -> tuple[nn.Module, Origin]:
    """Return an untrained network and where it comes from; the layers of a module are drawn anew."""
    if isinstance(source, nn.Module):
        for layer in source.modules():
            if hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()
        return source, getattr(source, 'origin', Origin())
    constructor = build_source(source)[1] if is_weight_file(source) else untrained(network_config(source))
    network = build_network(constructor)
    return network, getattr(network, 'origin', Origin(constructor))


def _inputs(layer: nn.Module) -> int:
    """Return how many numbers a filter of a convolution or fully connected layer reads, 0 for other layers."""
    return layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0
