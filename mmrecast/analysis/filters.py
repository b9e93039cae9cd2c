"""Judge the filters of a layer: which contribute next to nothing, and which repeat what others extract.

All of it follows from one matrix of inner products, (K, K) for K filters, their *Gram matrix*::

    kernels ──▶ W Wᵀ, the covariance of the responses to white noise ──┐
    images ───▶ covariance of the responses to them ───────────────────┴──▶ size, similarity, R² ──▶ judge

Network Recasting (AAAI 2019) names the two kinds, *ineffectual* and *redundant* ("very similar" to another filter, or
"combining features from other filters"), and measures neither; the measures are ours. That a filter's norm or the scale
of its BatchNorm tells what it contributes is from pruning (Li et al., ICLR 2017; Liu et al., ICCV 2017).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrecast.links.prefix import run_to
from mmrecast.utils.modules import device_of, get_module, hooked, untouched

INEFFECTUAL, SIMILARITY, R2 = 0.2, 0.9, 0.95
_RIDGE = 1e-9  # on the diagonal of correlations: keeps exact repetitions invertible


@dataclass(frozen=True)
class Filter:
    """What is found about one filter.

    Args:
        index (int): Its output channel.
        strength (float): Size of its contribution, over the median of the layer.
        verdict (str): ``'kept'``, ``'ineffectual'``, ``'similar'`` or ``'combination'``; the last two are redundant.
        like (int, optional): The stronger filter that a similar one repeats.
        similarity (float, optional): Absolute correlation with the filter it is most similar to among those that were
            kept before it; None for ineffectual ones and for the strongest.
        r2 (float, optional): Share of it that is a linear combination of the filters left: of those at the end for a
            kept one, of those when it was dropped for a combination; None for the others.
    """

    index: int
    strength: float
    verdict: str
    like: int | None = None
    similarity: float | None = None
    r2: float | None = None

    @property
    def redundant(self) -> bool:
        """bool: Whether other filters extract what it does."""
        return self.verdict in ('similar', 'combination')


@dataclass(frozen=True)
class Layer:
    """A convolution whose filters are looked at.

    Args:
        path (str): Where it stands.
        weight (Tensor): Its kernels, (K, C, H, W).
        norm (nn.Module, optional): The BatchNorm that its output goes to.
    """

    path: str
    weight: Tensor
    norm: nn.Module | None


def find_layer(network: nn.Module, input_shape: Sequence[int], path: str | None = None) -> Layer:
    """Return the first convolution that ``network`` calls.

    Args:
        network (nn.Module): Takes (N, C, H, W).
        input_shape (Sequence[int]): (C, H, W) of an image.
        path (str, optional): Where to look: a convolution or a module that holds one. Defaults to everywhere.

    Raises:
        KeyError: There is no module at ``path``.
        ValueError: The network cannot be run, or calls no convolution there.
    """
    if path is not None:
        get_module(network, path)
    calls: list[tuple[str, nn.Module, Tensor, int]] = []  # a convolution's output, a norm's input

    def note(name: str):
        def hook(module, args, out):
            tensor = out if isinstance(module, nn.Conv2d) else args[0]
            calls.append((name, module, tensor, tensor._version))  # which counts what is done to it in place

        return hook

    watched = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | _BatchNorm)]
    image = torch.zeros(1, *input_shape, device=device_of(network))
    with hooked([m.register_forward_hook(note(n)) for n, m in watched]), untouched(network), torch.no_grad():
        try:
            network(image)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise ValueError(
                f'{type(network).__name__} cannot be run on input shape {tuple(input_shape)}: {reason}'
            ) from error
    for name, module, out, version in calls:
        if isinstance(module, nn.Conv2d) and (path is None or name == path or name.startswith(f'{path}.')):
            fed = (m for _, m, given, v in calls if isinstance(m, _BatchNorm) and given is out and v == version)
            return Layer(name, module.weight.detach(), next(fed, None))
    where = 'no convolution' if path is None else f'no convolution at or below {path!r}'
    raise ValueError(f'{type(network).__name__} calls {where} in its forward pass')


def kernel_gram(weight: Tensor) -> Tensor:
    """Return the inner products (K, K) of kernels (K, C, H, W), in float64."""
    flat = weight.detach().double().flatten(1)
    return flat @ flat.T


def response_gram(network: nn.Module, path: str, batches: Iterable[Tensor]) -> Tensor:
    """Return the covariance (K, K) of a convolution's outputs over images and positions, in float64.

    Args:
        network (nn.Module): What the convolution is in; nothing behind it is computed.
        path (str): The convolution.
        batches (Iterable[Tensor]): Normalised images (N, C, H, W).

    Raises:
        ValueError: There is no image.
    """
    count, total, products, shift = 0, 0.0, 0.0, None
    with untouched(network), torch.no_grad():
        for images in batches:
            out = run_to(network, path, images.to(device_of(network)))[0]
            flat = out.double().transpose(0, 1).flatten(1)
            shift = flat.mean(1, keepdim=True) if shift is None else shift  # a large mean would cost digits
            flat = flat - shift
            count, total, products = count + flat.shape[1], total + flat.sum(1), products + flat @ flat.T
    if not count:
        raise ValueError('no images were given to measure responses on')
    mean = total / count
    return products / count - mean[:, None] * mean


def strengths(gram: Tensor, norm: nn.Module | None = None, measured: bool = False) -> Tensor:
    """Return the size (K,) of each filter's contribution: the standard deviation of what it hands on, or its norm.

    Behind a convolution without BatchNorm that is the root of the Gram matrix's diagonal: the response's standard
    deviation on images, else the L2 norm of the kernel. A BatchNorm (scale γ, running variance v) multiplies by
    |γ|/√(v + ε), whatever the kernel's norm; without images, v says how far the response varied in training.

    Args:
        gram (Tensor): (K, K), of kernels or responses.
        norm (nn.Module, optional): The BatchNorm behind the convolution. Defaults to none.
        measured (bool): Whether ``gram`` comes from images. Defaults to False.
    """
    own = gram.diagonal().clamp_min(0).sqrt()
    if norm is None:
        return own
    scale = torch.ones_like(own) if norm.weight is None else norm.weight.detach().to(own).abs()
    if norm.running_var is None:  # it divides by the deviation of the batch, whatever that is
        return scale
    variance = norm.running_var.to(own)
    return scale * (own if measured else variance.sqrt()) / (variance + norm.eps).sqrt()


def examine(
    network: nn.Module,
    layer: Layer,
    batches: Sequence[Tensor] = (),
    ineffectual: float = INEFFECTUAL,
    similarity: float = SIMILARITY,
    r2: float = R2,
) -> tuple[Filter, ...]:
    """Judge the filters of a layer by their responses to images where there are any, else by their weights.

    Args:
        network (nn.Module): What the layer is in.
        layer (Layer): From :func:`find_layer`.
        batches (Sequence[Tensor]): Normalised images (N, C, H, W). Defaults to none.
        ineffectual, similarity, r2 (float): See :func:`judge`.

    Raises:
        ValueError: As :func:`judge`.
    """
    gram = response_gram(network, layer.path, batches) if batches else kernel_gram(layer.weight)
    sizes = strengths(gram, layer.norm, measured=bool(batches))
    return judge(gram, sizes, ineffectual, similarity, r2)


def judge(
    gram: Tensor,
    strength: Tensor,
    ineffectual: float = INEFFECTUAL,
    similarity: float = SIMILARITY,
    r2: float = R2,
) -> tuple[Filter, ...]:
    """Judge K filters, one after another, so that what repeats a dropped filter is not dropped for its sake.

    1. *Ineffectual*: ``strength`` at most ``ineffectual`` times the layer's median.
    2. *Similar*, the strongest first: absolute correlation with a filter kept before of at least ``similarity``; so
       that the strongest of a cluster is kept.
    3. *Combination*: as long as there is one whose regression on the others left has an R² of at least ``r2``, the one
       with the highest is dropped. Of more filters than their kernels have elements, as many as those are left.

    Args:
        gram (Tensor): (K, K), from :func:`kernel_gram` or :func:`response_gram`.
        strength (Tensor): (K,), from :func:`strengths`.
        ineffectual (float): 0 to 1. Defaults to 0.2: 4 % of the median's power.
        similarity (float): Above 0, to 1. Defaults to 0.9.
        r2 (float): Above 0, to 1. Defaults to 0.95.

    Returns:
        tuple[Filter]: In the order of the channels.

    Raises:
        ValueError: A threshold is out of range, or the Gram matrix holds numbers that are not finite.
    """
    if not 0 <= ineffectual <= 1:
        raise ValueError(f'ineffectual must be from 0 to 1, got {ineffectual}')
    for name, value in (('similarity', similarity), ('r2', r2)):
        if not 0 < value <= 1:
            raise ValueError(f'{name} must be above 0 and at most 1, got {value}')
    if not (gram.isfinite().all() and strength.isfinite().all()):
        raise ValueError('the filters hold values that are not finite (NaN or infinity)')
    correlation = _correlation(gram.double())
    sizes = strength.double().tolist()
    middle = median(sizes)
    found = {i: dict(strength=size / middle if middle else 0.0, verdict='ineffectual') for i, size in enumerate(sizes)}
    left: list[int] = []
    for i in sorted(found, key=lambda i: -sizes[i]):
        if sizes[i] <= ineffectual * middle or not correlation[i, i]:
            continue
        found[i]['verdict'] = 'kept'
        if left:
            closest = max(left, key=lambda j: correlation[i, j].abs().item())
            found[i]['similarity'] = min(correlation[i, closest].abs().item(), 1.0)
            if found[i]['similarity'] >= similarity - _RIDGE:
                found[i] |= dict(verdict='similar', like=closest)
                continue
        left.append(i)
    while left:
        shares = dict(zip(left, explained(correlation[left][:, left]).tolist(), strict=True))
        most = max(
            left, key=lambda i: (round(shares[i], 6), -sizes[i])
        )  # of those that make up one another, the weakest
        if shares[most] < r2 - 10 * _RIDGE * len(left):  # an exact combination falls short of 1 by about the ridge
            break
        found[most] |= dict(verdict='combination', r2=shares[most])
        left.remove(most)
    for i in left:
        found[i]['r2'] = shares[i]
    return tuple(Filter(i, **values) for i, values in found.items())


def explained(correlation: Tensor) -> Tensor:
    """Return, per variable, R² of its least-squares regression on the others, from their correlations (K, K)."""
    inverse = torch.linalg.inv(correlation + _RIDGE * torch.eye(len(correlation), dtype=correlation.dtype))
    return (1 - 1 / inverse.diagonal()).clamp(0, 1)


def _correlation(gram: Tensor) -> Tensor:
    """Return the Gram matrix scaled to a diagonal of ones; rows of zeros stay zeros."""
    scale = gram.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(scale > scale.max() * 1e-12, 1 / scale, 0)
    return gram * inverse[:, None] * inverse
