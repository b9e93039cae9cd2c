"""Count a network's weights, multiplications and activation load by running it once.

The conventions are those of the tables of Network Recasting (AAAI 2019):

* ``cifar``: weights and multiplications of convolutions only, projections included;
* ``imagenet``: convolutions and the classifier.

No bias and no BatchNorm in either. The activation load is the number of elements that operators *read*: the
input of every counted layer (the image's too) and of every pooling that changes the shape, global pooling
under ``imagenet`` only.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer, parameter_count
from torch import nn
from torch.overrides import TorchFunctionMode

from mmrecast.utils.modules import untouched

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
        return self._of([row for row in self.rows if _lies_in(row, paths)])

    def parts(self, blocks: Sequence[Sequence[str]]) -> tuple['Part', ...]:
        """Divide the count into what runs before, in, between and behind the blocks; nothing is left out.

        Args:
            blocks (Sequence[Sequence[str]]): Per block, in running order, the paths of its modules; it is named by
                the first.
        """
        rows: dict[tuple[str, str], list[LayerCount]] = {('stem', 'stem'): []}
        behind = {paths[0]: ('glue', f'glue behind {paths[0]}') for paths in blocks[:-1]}
        behind |= {paths[0]: ('head', 'head') for paths in blocks[-1:]}
        for paths in blocks:
            rows |= {('block', paths[0]): [], behind[paths[0]]: []}
        here = ('stem', 'stem')
        for row in self.rows:
            block = next((paths[0] for paths in blocks if _lies_in(row, paths)), None)
            here = behind[block] if block is not None else here
            rows[here if block is None else ('block', block)].append(row)
        return tuple(Part(name, kind, self._of(own)) for (kind, name), own in rows.items() if own or kind == 'block')

    def _of(self, rows: Iterable[LayerCount]) -> 'Complexity':
        return _summed(rows, self.convention, self.uncounted)


@dataclass(frozen=True)
class Part:
    """A stretch of a network and what it costs.

    Args:
        name (str): The block's path, ``'stem'``, ``'glue behind PATH'`` or ``'head'``.
        kind (str): ``'stem'``, ``'block'``, ``'glue'`` or ``'head'``.
        count (Complexity): What it costs.
    """

    name: str
    kind: str
    count: Complexity


@dataclass(frozen=True)
class FvcoreTotals:
    """A network's totals as fvcore's users know them.

    Args:
        params (int): All parameters.
        flops (int): Multiply-adds; 2 per element of a BatchNorm, 1 per element an adaptive average pooling reads.
        activations (int): Elements that convolutions and matrix products *write*.
        flops_by_operator (dict[str, int]): What ``flops`` is the sum of.
    """

    params: int
    flops: int
    activations: int
    flops_by_operator: dict[str, int]


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
    image, tracer = _zeros(network, shape), _Tracer(convention)
    with untouched(network), tracer.following(network), torch.no_grad(), tracer:
        try:
            network(image)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise ValueError(f'{type(network).__name__} cannot be run on input shape {shape}: {reason}') from error
    return _summed(tracer.rows.values(), convention, tuple(sorted(tracer.uncounted)))


def fvcore_totals(network: nn.Module, input_shape: Sequence[int]) -> FvcoreTotals:
    """Return what mmengine's ``get_model_complexity_info`` finds, and what it passes over: ``padding='same'``.

    Args:
        network (nn.Module): Takes ``(1, C, H, W)``.
        input_shape (Sequence[int]): ``(C, H, W)`` of one image.
    """
    image = (_zeros(network, input_shape),)
    flops, activations = FlopAnalyzer(network, image), ActivationAnalyzer(network, image)
    for analyzer, measure in ((flops, _mults_of), (activations, _written_by)):
        analyzer.set_op_handle('aten::_convolution_mode', measure)
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    with untouched(network), torch.no_grad():
        by_operator = {name: int(number) for name, number in flops.by_operator().items()}
        written = int(activations.total())
    return FvcoreTotals(parameter_count(network)[''], sum(by_operator.values()), written, by_operator)


def _zeros(network: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    like = next(network.parameters(), torch.zeros(()))
    return torch.zeros(1, *shape, device=like.device, dtype=like.dtype)


def _mults_of(inputs: list, outputs: list) -> Counter:
    return Counter(conv=prod(inputs[1].type().sizes()) * prod(outputs[0].type().sizes()[2:]))


def _written_by(inputs: list, outputs: list) -> Counter:
    return Counter(conv=prod(outputs[0].type().sizes()))


def _lies_in(row: LayerCount, paths: Iterable[str]) -> bool:
    return any(row.path == path or row.path.startswith(f'{path}.') for path in paths)


def _summed(rows: Iterable[LayerCount], convention: str, uncounted: tuple[str, ...]) -> Complexity:
    rows = tuple(rows)
    sums = (sum(getattr(row, name) for row in rows) for name in ('params', 'mults', 'acts'))
    return Complexity(*sums, rows, convention, uncounted)


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
