"""Count a network's weights, multiplications and activation load by running it once.

The conventions are those of the tables of Network Recasting (AAAI 2019):

* ``cifar``: weights and multiplications of convolutions only, projections included;
* ``imagenet``: convolutions and the classifier.

No bias and no BatchNorm in either. The activation load is the number of elements that operators *read*: the
input of every counted layer (the image's too) and of every pooling that changes the shape, global pooling
under ``imagenet`` only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

CONVENTIONS = ('cifar', 'imagenet')
_CONVOLUTIONS = {f'conv{d}d' for d in (1, 2, 3)}
_TRANSPOSED = {f'conv_transpose{d}d' for d in (1, 2, 3)}
_MAX_POOLS = {f'max_pool{d}d{tail}' for d in (1, 2, 3) for tail in ('', '_with_indices')}
_AVERAGE_POOLS = {f'avg_pool{d}d' for d in (1, 2, 3)}
_ADAPTIVE = {
    f'adaptive_{k}_pool{d}d{tail}' for k in ('avg', 'max') for d in (1, 2, 3) for tail in ('', '_with_indices')
}
_MULTIPLYING = {
    'matmul', '__matmul__', '__rmatmul__', 'mm', 'bmm', 'addmm', 'baddbmm', 'einsum', 'bilinear', 'unfold',
    'fold', 'scaled_dot_product_attention', 'multi_head_attention_forward', 'lp_pool1d', 'lp_pool2d',
    'lp_pool3d',
}  # fmt: skip


@dataclass(frozen=True)
class LayerCount:
    """What one layer costs per image; a layer that runs twice on the same shape is one row with ``calls=2``.

    Args:
        path (str): Module path; for an operator called in a ``forward``, the path of the module it was called
            in.
        type (str): Class name of the layer, or ``F.name`` of a functional operator.
        params (int): Weights, 0 where an earlier row has already counted them.
        mults (int): Multiplications of all calls.
        acts (int): Elements read by all calls.
        in_shape (tuple[int, ...]): Shape read, without the batch dimension.
        out_shape (tuple[int, ...]): Shape written, without the batch dimension.
        calls (int): How often it ran.
    """

    path: str
    type: str
    params: int
    mults: int
    acts: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    calls: int = 1


@dataclass(frozen=True)
class Complexity:
    """What a network costs per image, in total and by layer in running order.

    Args:
        params (int): Weights under the convention, each counted once.
        mults (int): Multiplications.
        acts (int): Activation load: elements read.
        rows (tuple[LayerCount, ...]): One entry per counted layer.
        convention (str): ``'cifar'`` or ``'imagenet'``.
        uncounted (tuple[str, ...]): Operators that multiply, were run, and are in neither convention
            (attention, matmul).
    """

    params: int
    mults: int
    acts: int
    rows: tuple[LayerCount, ...]
    convention: str
    uncounted: tuple[str, ...] = ()

    def under(self, *paths: str) -> 'Complexity':
        """Return the part of the count that lies in the modules at ``paths``."""
        rows = tuple(r for r in self.rows if any(r.path == p or r.path.startswith(f'{p}.') for p in paths))
        sums = (sum(getattr(r, name) for r in rows) for name in ('params', 'mults', 'acts'))
        return Complexity(*sums, rows, self.convention, self.uncounted)


def convention_for(input_shape: Sequence[int]) -> str:
    """Return the convention customary for an image size: ``'imagenet'`` above 64 pixels, else ``'cifar'``."""
    return 'imagenet' if max(input_shape[1:]) > 64 else 'cifar'


def count(network: nn.Module, input_shape: Sequence[int], convention: str = 'cifar') -> Complexity:
    """Run ``network`` once on one image of zeros and count what it does; the network is left as it was.

    Layers and functional operators are seen alike. Not seen: what runs inside a scripted module, weights that
    no forward pass touches, a global pooling written as anything but a pooling or a mean over the last two
    dimensions of ``(N, C, H, W)``, and the operators listed in :attr:`Complexity.uncounted`.

    Args:
        network (nn.Module): Takes ``(1, C, H, W)``.
        input_shape (Sequence[int]): ``(C, H, W)`` of one image.
        convention (str): ``'cifar'`` or ``'imagenet'``. Defaults to ``'cifar'``.

    Raises:
        ValueError: Unknown convention, or the network cannot be run on ``input_shape``.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f'unknown counting convention {convention!r}; expected one of {", ".join(CONVENTIONS)}')
    shape = tuple(input_shape)
    if not shape or any(not isinstance(s, int) or s < 1 for s in shape):
        raise ValueError(f'input_shape must be positive integers (C, H, W), got {input_shape!r}')
    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    tracer = _Tracer(convention)
    with _untouched(network), tracer.following(network), torch.no_grad(), tracer:
        try:
            network(image)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise ValueError(f'{type(network).__name__} cannot be run on input shape {shape}: {reason}') from error
    rows = tuple(tracer.rows.values())
    sums = (sum(getattr(r, name) for r in rows) for name in ('params', 'mults', 'acts'))
    return Complexity(*sums, rows, convention, tuple(sorted(tracer.uncounted)))


class _Tracer(TorchFunctionMode):
    """Sees every operator of a forward pass, and knows from hooks which module it runs in."""

    def __init__(self, convention: str):
        super().__init__()
        self.imagenet = convention == 'imagenet'
        self.rows: dict[tuple, LayerCount] = {}
        self.uncounted: set[str] = set()
        self._stack: list[tuple[str, nn.Module, tuple]] = []
        self._weights: dict[tuple, torch.Tensor] = {}  # holding them keeps an address from being used again

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Know the running module while the context lasts."""
        handles = []
        for path, module in network.named_modules():

            def enter(module: nn.Module, args: tuple, path: str = path) -> None:
                self._stack.append((path, module, args))

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(lambda *_: self._stack.pop() and None, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, '__name__', '')
        if name in _MULTIPLYING:
            self.uncounted.add(name)
        elif name in _CONVOLUTIONS or name in _TRANSPOSED or (name == 'linear' and self.imagenet):
            self._layer(name, _argument(args, kwargs, 0, 'input'), _argument(args, kwargs, 1, 'weight'), out)
        elif name in _MAX_POOLS or name in _AVERAGE_POOLS or name in _ADAPTIVE or name == 'mean':
            self._pooling(name, args, kwargs, out[0] if isinstance(out, tuple) else out)
        return out

    def _layer(self, name: str, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
        module, args = self._stack[-1][1:]
        if isinstance(module, nn.modules.conv._ConvNd) and args:
            x = args[0]  # before any padding that the module made itself
        if name in _TRANSPOSED:
            positions = x.numel() // x.shape[1]
        elif name == 'linear':
            positions = out.numel() // out.shape[-1]
        else:
            positions = out.numel() // weight.shape[0]
        key = (id(weight),) if weight.is_meta else (weight.data_ptr(), tuple(weight.shape), tuple(weight.stride()))
        params = 0 if key in self._weights else weight.numel()
        self._weights[key] = weight
        self._record(name, params, weight.numel() * positions, x, out)

    def _pooling(self, name: str, args: tuple, kwargs: dict, out: torch.Tensor) -> None:
        x = _argument(args, kwargs, 0, 'input')
        x = kwargs.get('self') if x is None else x
        if name == 'mean':
            dims = _argument(args, kwargs, 1, 'dim')
            if x.dim() != 4 or not isinstance(dims, (tuple, list)) or {d % 4 for d in dims} != {2, 3}:
                return
            everywhere = True
        else:
            everywhere = name not in _MAX_POOLS and all(s == 1 for s in out.shape[2:])
        if (everywhere and not self.imagenet) or x.shape == out.shape:
            return
        self._record(name, 0, 0, x, out)

    def _record(self, name: str, params: int, mults: int, x: torch.Tensor, out: torch.Tensor) -> None:
        path, module, _ = self._stack[-1]
        own = isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) or 'Pool' in type(module).__name__
        kind = type(module).__name__ if own else f'F.{name}'
        key = (path, kind, x.shape, out.shape)
        old = self.rows.get(key) or LayerCount(path, kind, 0, 0, 0, tuple(x.shape[1:]), tuple(out.shape[1:]), calls=0)
        self.rows[key] = LayerCount(
            path, kind, old.params + params, old.mults + mults, old.acts + x.numel(), old.in_shape,
            old.out_shape, old.calls + 1,
        )  # fmt: skip


def _argument(args: tuple, kwargs: dict, position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Put the network into eval mode; afterwards every module's mode and every buffer is what it was."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)
