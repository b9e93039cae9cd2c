"""Find out, by running a network once, which channels depend on which: what must narrow together, and what cannot.

::

    image ─▶ conv1 ─▶ bn1 ─▶ relu ─▶ conv2 ─▶ bn2 ─┬▶ (+) ─▶ fc ─▶ logits
             group conv1               group conv2  │
    conv1's output ────────────────────── conv3 ────┘  tied: a sum needs the same channels on both sides

A width group is a set of layers whose outputs lose their last channels together. Convolutions and fully connected
layers begin a group; sums, products, depthwise and grouped convolutions tie groups; concatenations set them side by
side; what is not understood (a channel shuffle, attention) holds its groups at their width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from mmrecast.surgery.channel_graph import OUTPUT, ChannelGraph, Layer
from mmrecast.surgery.channel_parts import Found, Layout, Part, hold, new_part, numbers_in, tie, union
from mmrecast.utils.modules import device_of, hooked, untouched

# Operators by what they do to channels; in-place forms are known without their underscore.
ELEMENTWISE = set(
    'relu relu6 hardtanh silu gelu hardswish hardsigmoid sigmoid tanh mish elu selu celu leaky_relu softplus softsign '
    'logsigmoid exp log abs square sqrt rsqrt neg dropout dropout1d dropout2d alpha_dropout '
    'feature_dropout feature_alpha_dropout interpolate upsample contiguous clone detach to float half bfloat16 double '
    'type type_as cpu cuda requires_grad lp_pool1d lp_pool2d'.split()
) | {
    f'{adaptive}{kind}_pool{d}d{tail}'
    for adaptive in ('', 'adaptive_')
    for kind in ('max', 'avg')
    for d in (1, 2)
    for tail in ('', '_with_indices')
}
BINARY = set(
    'add sub mul div true_divide maximum minimum rsub pow clamp clip __add__ __sub__ __mul__ __truediv__ __pow__ '
    '__radd__ __rsub__ __rmul__ __rtruediv__ __rpow__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__'.split()
)
RESHAPES = {'flatten', 'view', 'reshape', 'squeeze', 'unsqueeze', 'view_as', 'reshape_as', 'unflatten'}
REDUCTIONS = {'mean', 'sum', 'amax', 'amin', 'std', 'var'}
CONCATENATIONS = {'cat', 'concat', 'concatenate'}


def trace_channels(network: nn.Module, input_shape: Sequence[int]) -> ChannelGraph:
    """Run ``network`` once, in eval mode, and follow its channels; the network is left as it was.

    Args:
        network (nn.Module): Images → logits.
        input_shape (tuple[int]): (C, H, W) of one image.

    Raises:
        ValueError: The network cannot be run on that shape, gives something else than one tensor, or
            computes where PyTorch's functions cannot be seen.
    """
    shape = tuple(input_shape)
    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(2, *shape, device=device_of(network), dtype=like.dtype)
    tracer = _Tracer(image)
    with untouched(network), tracer.following(network), torch.no_grad(), tracer:
        try:
            logits = network(image)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise ValueError(f'{type(network).__name__} cannot be run on input shape {shape}: {reason}') from error
    if not isinstance(logits, Tensor):
        raise ValueError(f'{type(network).__name__} must give one tensor of logits, got a {type(logits).__name__}')
    parts = tracer.layouts_in(logits)
    if not parts:
        raise ValueError(
            f'the channels of {type(network).__name__} cannot be followed through NumPy, TorchScript or such'
        )
    hold(parts, OUTPUT)
    return tracer.found.graph(shape)


class _Tracer(TorchFunctionMode):
    """Follows the channels (dimension 1) of every tensor that comes from the image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._stack: list[tuple[str, nn.Module]] = []
        self._layouts: dict[int, tuple[Tensor, Layout]] = {}  # tensors are held: an address must not be used again
        self.found = Found()
        self._layouts[id(image)] = image, (new_part('the image', image.shape[1], fixed='it is the image'),)

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Know the running module while the context lasts."""
        handles = []
        for path, module in network.named_modules():

            def enter(module: nn.Module, args: tuple, path: str = path) -> None:
                self._stack.append((path, module))

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(lambda *_: self._stack.pop() and None, always_call=True))
        with hooked(handles):
            yield

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [x for x in _tensors((args, kwargs)) if id(x) in self._layouts]
        results = [args[0]] if func is Tensor.__setitem__ else list(_tensors(out))
        if tensors and results:
            name = getattr(func, '__name__', str(func))
            layout = self._follow(name if name.startswith('__') else name.rstrip('_'), tensors, args, kwargs, results)
            for result in results:
                own = layout
                if own is None or result.dim() < 2 or numbers_in(own) != result.shape[1]:
                    own = self._lost(name, tensors, result)
                self._layouts[id(result)] = result, own
        return out

    # ---- operators: each returns the layout of the result, None where it cannot tell ---------------------------------

    def _follow(self, name: str, tensors: list, args: tuple, kwargs: dict, results: list) -> Layout | None:
        x, out = tensors[0], results[0]
        layout = self._layouts[id(x)][1]
        if name == 'conv2d' or name == 'linear':
            return self._weighted(x, layout, out, kwargs.get('weight', args[1] if len(args) > 1 else None))
        if name in ('batch_norm', 'instance_norm'):
            return self._normalised(layout)
        if name in ELEMENTWISE:
            return layout if out.shape[:2] == x.shape[:2] else None
        if name in BINARY:
            return self._combined(layout, x, _tensors((args, kwargs)))
        if name in CONCATENATIONS:
            return self._concatenated(args, kwargs, x)
        if name in RESHAPES:
            return self._reshaped(layout, x, out)
        if name in REDUCTIONS:
            dims = kwargs.get('dim', args[1] if len(args) > 1 else None)
            dims = [dims] if isinstance(dims, int) else dims
            kept = isinstance(dims, list | tuple) and dims and all(dim % x.dim() >= 2 for dim in dims)
            return layout if kept else None
        if name == 'pad':
            pad = kwargs.get('pad', args[1] if len(args) > 1 else ())
            return layout if len(pad) <= 2 * (x.dim() - 2) else None
        if name == '__getitem__':
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            whole = len(index) > 1 and index[0] == index[1] == slice(None)
            whole = whole and all(i is None or isinstance(i, slice) for i in index)
            return layout if whole else None
        return layout if name != '__setitem__' and all(result is x for result in results) else None

    def _weighted(self, x: Tensor, layout: Layout, out: Tensor, weight: object) -> Layout | None:
        path, module = self._stack[-1]
        conv = isinstance(module, nn.Conv2d)
        if (
            not isinstance(module, nn.Conv2d | nn.Linear)
            or weight is not module._parameters.get('weight')  # one that is computed (weight norm) is none
            or x.dim() != (4 if conv else 2)
        ):
            return None
        groups = module.groups if conv else 1
        if path in self.found.layers:
            outputs = self.found.layers[path][2]
        elif groups == 1:
            outputs = (new_part(path, out.shape[1]),)
        elif groups == numbers_in(layout):
            times = out.shape[1] // groups
            outputs = tuple(replace(part, repeat=part.repeat * times) for part in layout)
        elif len(layout) == 1 and layout[0].repeat == 1:
            outputs = (new_part(path, out.shape[1]),)
            union(outputs[0].var, layout[0].var)
            outputs[0].var.root.multiples.append(groups)
        else:
            return None
        for part in outputs:
            if path not in part.var.root.layers:
                part.var.root.layers.append(path)
        kernel = prod(module.weight.shape[2:])
        self.found.note(
            Layer(path, 'conv' if conv else 'linear', (), (), groups, kernel, prod(out.shape[2:])), layout, outputs
        )
        return outputs

    def _normalised(self, layout: Layout) -> Layout | None:
        path, module = self._stack[-1]
        if not isinstance(module, _NormBase) or module.num_features != numbers_in(layout):
            return None
        self.found.note(Layer(path, 'norm', (), ()), layout, layout)
        return layout

    def _combined(self, layout: Layout, x: Tensor, operands: Iterable[Tensor]) -> Layout | None:
        for other in (one for one in operands if one is not x):
            if id(other) in self._layouts:
                if other.dim() != x.dim():
                    return None
                theirs = self._layouts[id(other)][1]
                if numbers_in(layout) == 1 or numbers_in(theirs) == 1:  # one number for all channels
                    layout = max(layout, theirs, key=numbers_in)
                else:
                    tie(layout, theirs)
            elif other.dim() >= x.dim() - 1 and other.numel() > 1 and other.shape[1 - x.dim()] != 1:
                return None  # a parameter of its own for every channel
        return layout

    def _concatenated(self, args: tuple, kwargs: dict, x: Tensor) -> Layout | None:
        parts = args[0] if args else kwargs['tensors']
        dim = kwargs.get('dim', args[1] if len(args) > 1 else 0)
        if dim % x.dim() != 1:
            return None
        layout: list[Part] = []
        for part in parts:
            known = self._layouts.get(id(part))
            layout += known[1] if known else [new_part('a constant', part.shape[1], fixed='it is a constant')]
        return tuple(layout)

    @staticmethod
    def _reshaped(layout: Layout, x: Tensor, out: Tensor) -> Layout | None:
        if out.dim() < 2 or out.shape[0] != x.shape[0]:
            return None
        if out.shape[1] == x.shape[1]:
            return layout
        if out.dim() == 2 and out.shape[1] == prod(x.shape[1:]):
            return tuple(replace(part, repeat=part.repeat * prod(x.shape[2:])) for part in layout)
        return None

    def _lost(self, name: str, tensors: list[Tensor], result: Tensor) -> Layout:
        where = f'{type(self._stack[-1][1]).__name__} {self._stack[-1][0]!r}' if self._stack else 'the network'
        reason = f'{name} in {where} does not keep the channels apart'
        for tensor in tensors:
            hold(self._layouts[id(tensor)][1], reason)
        return (new_part(reason, result.shape[1] if result.dim() > 1 else 1, fixed=reason),)

    def layouts_in(self, value: object) -> Layout:
        """Return the parts of every tensor in ``value``."""
        return tuple(part for x in _tensors(value) if id(x) in self._layouts for part in self._layouts[id(x)][1])


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
