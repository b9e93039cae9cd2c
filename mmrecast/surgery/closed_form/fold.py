"""Fold the expansion of a narrow code into what reads it, so that it goes on computing what it did in the teacher.

::

    teacher     y ──────────────▶ conv W       student     z ─▶ (E, e) ─▶ conv W   =   z ─▶ conv W E, bias + Σ W e

A layer that mixes its input's channels (a convolution, a fully connected layer) takes the expansion up, the constant
going into its bias or the BN behind it (with zero padding exact but for the border). One that does not (a BN, a
depthwise convolution) keeps the rows of the channels that the code consists of. A shortcut that was the identity
becomes the expansion itself.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrecast.surgery.closed_form.code import Code
from mmrecast.surgery.closed_form.last_layer import set_terms
from mmrecast.surgery.closed_form.least_squares import LeastSquares
from mmrecast.surgery.closed_form.patches import patches, rows
from mmrecast.utils.modules import get_module

Read = Callable[[str, str], Iterable[tuple[Tensor, Tensor]]]
RIDGE = 1e-6


def changed_layers(student: nn.Module, teacher: nn.Module, new: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield path and layer of what, inside the modules at the paths ``new``, reads another width than in the teacher.

    A layer that the teacher does not have (of a shortcut that was the identity) is among them if it is a convolution.
    """
    for path in new:
        for name, layer in get_module(student, path).named_modules(prefix=path):
            theirs = _counterpart(teacher, name)
            if isinstance(layer, _BatchNorm):
                if isinstance(theirs, _BatchNorm) and theirs.num_features != layer.num_features:
                    yield name, layer
            elif isinstance(layer, nn.Conv2d | nn.Linear) and (
                not isinstance(theirs, nn.Conv2d | nn.Linear) or _width(theirs) != _width(layer)
            ):
                yield name, layer


def mixes(layer: nn.Module) -> bool:
    """Tell whether a layer mixes the channels of its input."""
    return not isinstance(layer, _BatchNorm) and not _depthwise(layer)


def check_foldable(student: nn.Module, teacher: nn.Module, new: Iterable[str]) -> None:
    """Refuse convolutions that read the code in groups of channels.

    Raises:
        ValueError: There is one.
    """
    for path, layer in changed_layers(student, teacher, new):
        if isinstance(layer, nn.Conv2d) and layer.groups not in (1, layer.in_channels):
            raise ValueError(
                f'no narrow code can be folded into {path!r}, a convolution with {layer.groups} groups; '
                "use start='xavier' or next_block='fresh'"
            )


@torch.no_grad()
def fold(student: nn.Module, teacher: nn.Module, new: Iterable[str], code: Code, read: Read, spans: dict) -> None:
    """Set what reads a narrow code in ``student`` so that it does what it does in ``teacher``.

    Args:
        student (nn.Module): The student; changed in place.
        teacher (nn.Module): The teacher.
        new (Iterable[str]): Paths of the modules that were rebuilt for the code.
        code (Code): The code.
        read (Callable): (path, path) → pairs of what the student's module at the first and the teacher's at the second
            path read, batch by batch.
        spans (dict): By the path of a convolution, the paths of the modules behind it; see ``surgery.spans``.
    """
    layers = list(changed_layers(student, teacher, new))
    for path, layer in layers:
        if not mixes(layer):
            _keep_rows(layer, get_module(teacher, path), code, read(path, path))
    for path, layer in layers:
        if mixes(layer):
            behind = next((get_module(student, p) for p in spans.get(path, ())[:1]), None)
            norm = behind if isinstance(behind, nn.BatchNorm2d) else None
            block = next(p for p in new if path == p or path.startswith(f'{p}.'))
            if isinstance(_counterpart(teacher, path), nn.Conv2d | nn.Linear):
                _compose(layer, norm, get_module(teacher, path), code, read(path, path))
            else:
                _become_shortcut(layer, norm, _shortcut_of(teacher, block, path), read(path, block))


def _keep_rows(layer: nn.Module, theirs: nn.Module, code: Code, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    kept = list(code.channels)
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        other = theirs.get_parameter(name) if name in dict(theirs.named_parameters()) else theirs.get_buffer(name)
        tensor.copy_(other[kept] if other.ndim else other)
    if isinstance(layer, _BatchNorm) and layer.track_running_stats:  # the code may be shifted
        s, t, n = 0, 0, 0
        for ours, teachers in pairs:
            ours, teachers = rows(ours).double(), rows(teachers).double()
            s, t, n = s + ours.sum(0), t + teachers.sum(0)[kept], n + len(ours)
        layer.running_mean += ((s - t) / n).to(layer.running_mean.dtype)


def _compose(
    layer: nn.Module, norm: nn.Module | None, theirs: nn.Module, code: Code, pairs: Iterable[tuple[Tensor, Tensor]]
) -> None:
    matrix, constant = expand(pairs, len(code.weight), layer.bias is not None or norm is not None)
    weight = theirs.weight.double()
    if isinstance(layer, nn.Linear):
        weight = weight.view(len(weight), len(matrix), -1)  # several positions where the map was not pooled
        layer.weight.copy_(torch.einsum('ocq,cm->omq', weight, matrix).flatten(1))
        added = weight.sum(2) @ constant
    else:
        layer.weight.copy_(torch.einsum('ocij,cm->omij', weight, matrix))
        added = weight.sum((2, 3)) @ constant
    if layer.bias is not None:
        layer.bias.copy_(theirs.bias + added)
    elif norm is not None:
        norm.running_mean.sub_(added)


def expand(pairs: Iterable[tuple[Tensor, Tensor]], width: int, intercept: bool = True) -> tuple[Tensor, Tensor]:
    """Return E (C, m) and e (C,), in float64, with y ≈ E z + e in the least-squares sense.

    Args:
        pairs (Iterable): Pairs (z, y) of (N, m, …) and (N, C, …), flattened ones as (N, m · positions).
        width (int): m.
        intercept (bool): Whether there is an e; else it is 0. Defaults to True.
    """
    sums = None
    for z, y in pairs:
        if z.ndim == 2:
            positions = z.shape[1] // width
            z, y = z.unflatten(1, (-1, positions)), y.unflatten(1, (-1, positions))
        z, y = rows(z), rows(y)
        sums = sums or LeastSquares(z.shape[1], y.shape[1], z.device, intercept)
        sums.add(z, y)
    fit = sums.solve(RIDGE)
    return fit.weight, fit.mean_y - fit.weight @ fit.mean_u


def _become_shortcut(
    conv: nn.Conv2d, norm: nn.Module | None, theirs: nn.Module | None, pairs: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Make a projection give what the teacher's shortcut, one without weights, gives of the teacher's input."""
    sums, intercept = None, norm is not None or conv.bias is not None
    for z, y in pairs:
        u, t = patches(conv, z), rows(y if theirs is None else theirs(y))
        sums = sums or LeastSquares(u.shape[1], t.shape[1], u.device, intercept)
        sums.add(u, t)
    set_terms(((conv, norm),), sums.solve(RIDGE))


def _shortcut_of(network: nn.Module, block: str, path: str) -> nn.Module | None:
    """Return what stands in the teacher's block where the student's has a projection."""
    return getattr(get_module(network, block), path.removeprefix(f'{block}.').split('.')[0], None)


def _counterpart(network: nn.Module, path: str) -> nn.Module | None:
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None


def _width(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
