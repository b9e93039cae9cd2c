"""Find the chain of a network's blocks by a dry run, and check that it is one.

::

    image ─ stem ─ block 0 ─ glue ─ block 1 ─ … ─ block n ─ head ─ logits
                     │ every output is cut off from what made it, so that autograd tells which of them
                     ▼ a later input depends on: on the previous one and on no other, or this is no chain
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from mmrecast.blocks.base import SourceInfo
from mmrecast.surgery.describe import describe
from mmrecast.surgery.spans import between_convolutions, find_spans, flat_convolutions, siblings
from mmrecast.utils.modules import device_of, hooked, untouched
from mmrecast.utils.names import nearest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ChainBlock:
    """One block of a chain.

    Args:
        path (str): Where it stands in the network.
        type (str): Its class.
        source (SourceInfo, optional): What surgery knows of it; None if it cannot be recast (``why`` says so).
        in_shape, out_shape (tuple[int]): Without the batch: (C, H, W).
        glue (tuple[str]): The modules between it and the next block (the head, for the last one), in calling order.
        why (str): Why it cannot be a source. Defaults to ''.
        span (tuple[str]): In a flat network, the modules behind the convolution that belong to it. Defaults to none.
    """

    path: str
    type: str
    source: SourceInfo | None
    in_shape: Shape
    out_shape: Shape
    glue: tuple[str, ...]
    why: str = ''
    span: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """str: Path of the module whose output is the block's."""
        return self.span[-1] if self.span else self.path


@dataclass(frozen=True)
class Chain:
    """The ordered blocks of a network, each feeding the next through nothing but glue.

    Args:
        blocks (tuple[ChainBlock]): In calling order.
        stem (tuple[str]): Modules called before the first block.
        input_shape (tuple[int]): What the dry run was given, (C, H, W).
        num_classes (int): Width of the logits.
        breaks (dict[str, str]): Blocks whose input is not the previous block's output alone, and what else reaches it
            (the key 'logits' stands for the network's output).
        left_out (dict[str, str]): Modules that look like blocks but are not in the chain, and why.
    """

    blocks: tuple[ChainBlock, ...]
    stem: tuple[str, ...]
    input_shape: Shape
    num_classes: int
    breaks: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """list[str]: The blocks' paths."""
        return [block.path for block in self.blocks]

    def index(self, path: str) -> int:
        """Return the position of the block at ``path``.

        Raises:
            ValueError: No block of the chain stands there; the message lists the nearest or says why it was left out.
        """
        if path in self.left_out:
            raise ValueError(f'{path!r} is not in the chain: {self.left_out[path]}')
        if path not in self.paths:
            raise ValueError(f'no block {path!r} in the chain{nearest(path, self.paths)}')
        return self.paths.index(path)


def match(pattern: str, paths: list[str]) -> list[str]:
    """Return the ``paths`` that ``pattern`` selects; a ``*`` in it stands for (a part of) one path segment.

    Raises:
        ValueError: It selects nothing; the message lists the nearest paths.
    """
    segments = pattern.split('.')
    found = [
        path
        for path in paths
        if path.count('.') == len(segments) - 1
        and all(fnmatchcase(part, segment) for part, segment in zip(path.split('.'), segments, strict=True))
    ]
    if not found:
        kind = 'pattern' if '*' in pattern else 'block path'
        raise ValueError(f'{kind} {pattern!r} matches nothing{nearest(pattern, paths)}')
    return found


def find_chain(network: nn.Module, input_shape: Shape, sources: tuple[str, ...] = ()) -> Chain:
    """Find the chain of ``network``.

    Blocks are the outermost modules of a class that has a describer, the spans of flat parts (see ``surgery.spans``) as
    far as they form a chain, and whatever ``sources`` names (patterns), with the other modules of the same classes.

    Args:
        network (nn.Module): Images (N, C, H, W) → logits (N, classes).
        input_shape (tuple[int]): (C, H, W).
        sources (tuple[str]): Patterns of blocks that must be in the chain.

    Raises:
        ValueError: A pattern matches nothing, named blocks overlap, are called more than once or never, do not take and
            give one map (N, C, H, W), or are not fed by the previous block alone.
    """
    modules = {path: module for path, module in network.named_modules() if path}
    named = list(dict.fromkeys(path for pattern in sources for path in _sources(pattern, modules)))
    for path in named:
        inside = next((other for other in named if path.startswith(other + '.')), None)
        if inside:
            raise ValueError(f'blocks {inside!r} and {path!r} overlap: name one of them')
    classes = tuple(
        {type(modules[path]) for path in named if not type(modules[path]).__module__.startswith('torch.nn')}
    )
    candidates = list(named)
    for path, module in modules.items():
        known = describe(module) is not None and not isinstance(module, nn.Conv2d) or isinstance(module, classes)
        if known and not _related(path, candidates):
            candidates.append(path)
    candidates += [path for path in siblings(network, named) if not _related(path, candidates)]
    assumed = [path for convs in flat_convolutions(network).values() for path in convs]
    assumed = [path for path in assumed if not _related(path, candidates)]
    record = _dry_run(network, modules, candidates + assumed, input_shape)
    if set(assumed) & {*record.breaks, *record.left_out}:  # not flat after all
        record = _dry_run(network, modules, candidates, input_shape)
    for path in named:
        if path in record.left_out:
            raise ValueError(f'block {path!r} ({type(modules[path]).__name__}) {record.left_out[path]}')
    chain = _to_chain(record, modules, input_shape)
    for path in named:
        successor = (chain.paths + ['logits'])[chain.index(path) + 1]
        for broken in (path, successor):
            if broken in chain.breaks:
                raise ValueError(
                    f'the blocks around {path!r} are not a chain: {chain.breaks[broken]}; '
                    'name a module that holds all ways from its input to its output'
                )
    return chain


def _sources(pattern: str, modules: dict[str, nn.Module]) -> list[str]:
    """Return what ``pattern`` selects as blocks: in a flat network the convolutions, not what stands between them."""
    found = match(pattern, list(modules))
    blocks = [path for path in found if not between_convolutions(modules[path])]
    if not blocks:
        convolutions = [path for path, module in modules.items() if isinstance(module, nn.Conv2d)]
        raise ValueError(
            f'{pattern!r} selects no block but {type(modules[found[0]]).__name__}: a source is a convolution with what '
            f'follows it, named by the convolution{nearest(pattern, convolutions)}'
        )
    return blocks


def _related(path: str, candidates: list[str]) -> bool:
    return any(path == c or path.startswith(c + '.') or c.startswith(path + '.') for c in candidates)


@dataclass
class _Record:
    order: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    gaps: list[list[str]] = field(default_factory=lambda: [[]])
    breaks: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[str, ...]] = field(default_factory=dict)
    num_classes: int = 0


def _dry_run(network: nn.Module, modules: dict[str, nn.Module], candidates: list[str], input_shape: Shape) -> _Record:
    counts = _count_calls(network, {path: modules[path] for path in candidates}, input_shape)
    left_out = {path: why for path, why in counts.items() if why}
    convolutions = [path for path in candidates if isinstance(modules[path], nn.Conv2d) and path not in left_out]
    record = _Record(left_out=left_out, spans=find_spans(network, convolutions, _sample(network, input_shape)))
    image = _sample(network, input_shape).requires_grad_()
    cuts: dict[str, Tensor] = {'the image': image}  # output of each finished block, cut off from what made it

    def check_feed(name: str, value: Tensor) -> None:
        names = list(cuts)
        grads = (
            torch.autograd.grad(value.sum(), [cuts[n] for n in names], allow_unused=True, retain_graph=True)
            if value.requires_grad
            else [None] * len(names)
        )
        reached = [n for n, grad in zip(names, grads, strict=True) if grad is not None]
        if reached != [names[-1]]:
            around = [n for n in reached if n != names[-1]]
            fed = f'the output of {names[-1]!r} does not reach it' if names[-1] not in reached else ''
            past = f'{", ".join(around)} reaches it past {names[-1]!r}' if around else ''
            record.breaks[name] = f'{name!r} is not fed by {names[-1]!r} alone ({"; ".join(filter(None, (fed, past)))})'

    def enter(path: str):
        def hook(module, args):
            check_feed(path, args[0])
            record.order.append(path)
            record.shapes[path] = (tuple(args[0].shape[1:]), ())

        return hook

    def leave(path: str):
        def hook(module, args, out):
            cuts[path] = out.detach().requires_grad_()
            record.shapes[path] = (record.shapes[path][0], tuple(out.shape[1:]))
            record.gaps.append([])
            return cuts[path].clone()  # what follows may change it in place

        return hook

    inner = set()
    handles = []
    for path in candidates:
        if path in left_out:
            continue
        span = (path, *record.spans.get(path, ()))
        inner.update(id(m) for part in span for m in modules[part].modules())
        handles += [modules[path].register_forward_pre_hook(enter(path))]
        handles += [modules[span[-1]].register_forward_hook(leave(path))]
    for path, module in modules.items():
        if id(module) not in inner and not list(module.children()):
            handles.append(module.register_forward_pre_hook(lambda m, a, path=path: record.gaps[-1].append(path)))
    with hooked(handles), untouched(network), torch.enable_grad():
        logits = network(image.clone())
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f'{type(network).__name__} should give logits (N, classes) but gave {got}')
        check_feed('logits', logits)
    record.num_classes = logits.shape[1]
    return record


def _count_calls(network: nn.Module, blocks: dict[str, nn.Module], input_shape: Shape) -> dict[str, str]:
    """Say of each block why it cannot stand in a chain ('' if it can), after one plain forward pass."""
    calls: dict[str, list[str]] = {path: [] for path in blocks}

    def hook(path: str):
        def note(module, args, kwargs, out):
            maps = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            single = len(args) == 1 and len(maps) == 1 and maps[0].ndim == 4
            calls[path].append(
                '' if single and isinstance(out, Tensor) and out.ndim == 4 else 'does not map one (N, C, H, W) to one'
            )

        return note

    handles = [m.register_forward_hook(hook(path), with_kwargs=True) for path, m in blocks.items()]
    with hooked(handles), untouched(network), torch.no_grad():
        try:
            network(_sample(network, input_shape))
        except Exception as error:  # a network of the user's may raise anything
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f'{type(network).__name__} does not take an input of {tuple(input_shape)}: {line}'
            ) from error
    why = {}
    for path, notes in calls.items():
        if len(notes) != 1:
            why[path] = f'is called {len(notes)} times in one forward pass, a block of a chain exactly once'
        else:
            why[path] = notes[0]
    return why


def _sample(network: nn.Module, input_shape: Shape) -> Tensor:
    noise = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    return noise.to(device_of(network))


def _to_chain(record: _Record, modules: dict[str, nn.Module], input_shape: Shape) -> Chain:
    blocks = []
    for i, path in enumerate(record.order):
        in_shape, out_shape = record.shapes[path]
        description = describe(modules[path])
        stride = description.stride if description else infer_stride(in_shape, out_shape)
        source, why = None, ''
        if stride is None:
            why = f'no stride turns its input {in_shape} into its output {out_shape}'
        else:
            kind, mid = (description.kind, description.mid_channels) if description else ('module', None)
            kernel = (description.kernel_size, description.padding) if description else (None, None)
            source = SourceInfo(kind, in_shape[0], out_shape[0], stride, mid, *kernel)
        glue = tuple(record.gaps[i + 1])
        kind, span = type(modules[path]).__name__, record.spans.get(path, ())
        blocks.append(ChainBlock(path, kind, source, in_shape, out_shape, glue, why, span))
    return Chain(
        tuple(blocks),
        tuple(record.gaps[0]),
        tuple(input_shape),
        record.num_classes,
        record.breaks,
        record.left_out,
    )


def infer_stride(in_shape: Shape, out_shape: Shape) -> int | None:
    """Return the smallest stride with which a padded convolution maps (C, H, W) to (C', H', W'), or None."""
    for stride in range(1, max(in_shape[1:]) + 1):
        if all((size - 1) // stride + 1 == out for size, out in zip(in_shape[1:], out_shape[1:], strict=True)):
            return stride
    return None
