"""Carry a plan out on a network: one step at a time while training, all steps at once to rebuild a student."""

import torch
from torch import Tensor, nn

from mmrecast.registry import BLOCKS
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.describe import rebuild, refit
from mmrecast.surgery.plan import Plan, PlanEntry
from mmrecast.utils.mistakes import explain
from mmrecast.utils.modules import device_of, get_module, hooked, set_module, untouched


def apply_step(network: nn.Module, plan: Plan, step: int) -> list[str]:
    """Replace the block of entry ``step`` by its target and fit what follows to the target's width, in place.

    The next block is rebuilt (same type, other input width) where the width changes, glue in between likewise; where it
    does not, they are left alone. New modules have their constructors' weights.

    Returns:
        list[str]: Paths of the modules that are new.

    Raises:
        ValueError: The target cannot be built, the next block cannot be rebuilt, or nothing behind the last block takes
            up its width.
    """
    entry = plan.entries[step]
    try:
        target = BLOCKS.build(dict(entry.target))
    except (TypeError, ValueError) as error:
        raise ValueError(f'the target of block {entry.path!r} cannot be built: {explain(error)}') from error
    target.to(device_of(network)).train(get_module(network, entry.path).training)
    _set_block(network, entry, target)
    new = [entry.path]
    if entry.out_channels == entry.out_shape[0]:
        return new
    changed, taken_up = _fit_glue(network, entry)
    new += changed
    follower = plan.follower(step)
    if follower is None and not taken_up:
        raise ValueError(
            f'the width of {entry.path!r} would change from {entry.out_shape[0]} to {entry.out_channels}, but nothing '
            'behind it can take that up: keep the width (out_channels)'
        )
    if follower is not None and not taken_up:
        try:
            block = rebuild(get_module(network, follower.path), entry.out_channels)
        except ValueError as error:
            raise ValueError(f'block {follower.path!r} behind {entry.path!r}: {error}') from error
        set_module(network, follower.path, block)
        new += follower.modules
    return new


def _set_block(network: nn.Module, entry: PlanEntry, target: nn.Module) -> None:
    """Put ``target`` in the place of a block, and nothing in those of the rest of its span."""
    for path in entry.span:
        set_module(network, path, nn.Identity())
    set_module(network, entry.path, target)


def replay(network: nn.Module, plan: Plan) -> nn.Module:
    """Apply every step of ``plan`` to ``network``, in place, and return it.

    Raises:
        ValueError: The plan does not fit the network.
    """
    for path in [path for entry in plan.entries for path in (*entry.modules, *entry.glue)]:
        try:
            get_module(network, path)
        except KeyError as error:
            raise ValueError(f'the plan does not fit {type(network).__name__}: {error.args[0]}') from error
    for step in plan.steps:
        apply_step(network, plan, step)
    return network


def check_plan(network: nn.Module, plan: Plan) -> nn.Module:
    """Build the student of ``plan`` from ``network`` (in place) and run it once, comparing shapes.

    Args:
        network (nn.Module): A copy of the teacher that may be changed.
        plan (Plan): What to try.

    Raises:
        ValueError: A target gives another size of map than its source, does not accept its input, or is never called.
    """
    replay(network, plan)
    current: list[str] = []
    wrong: list[str] = []

    def enter(entry: PlanEntry):
        return lambda module, args: current.append(entry.path)

    def leave(entry: PlanEntry):
        def hook(module, args, out):
            expected: Shape = (entry.out_channels, *entry.out_shape[1:])
            given = tuple(out.shape[1:]) if isinstance(out, Tensor) else type(out).__name__
            if given != expected:
                wrong.append(
                    f'target {entry.target["type"]} of block {entry.path!r} gives {given} where {expected} is needed'
                )
                raise ValueError(wrong[0])

        return hook

    handles = []
    for entry in plan.entries:
        module = get_module(network, entry.path)
        handles.append(module.register_forward_pre_hook(enter(entry)))
        if entry.action == 'recast':
            handles.append(module.register_forward_hook(leave(entry)))
    with hooked(handles), untouched(network), torch.no_grad():
        try:
            network(torch.zeros(2, *plan.input_shape, device=device_of(network)))
        except Exception as error:  # a block of the user's may raise anything
            if wrong:
                raise ValueError(wrong[0]) from None
            where = f'in or behind block {current[-1]!r}' if current else 'before the first block'
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f'the recast network does not run {where}: {line}') from error
    silent = next((entry.path for entry in plan.entries if entry.path not in current), None)
    if silent is not None:
        raise ValueError(f'block {silent!r} is not called once replaced: the network keeps the old one elsewhere, too')
    return network


def _fit_glue(network: nn.Module, entry: PlanEntry) -> tuple[list[str], bool]:
    """Fit the glue behind ``entry`` to its new width; tell what is new and whether the old width is restored."""
    old, new = entry.out_shape[0], entry.out_channels
    changed = []
    for path in entry.glue:
        layer = get_module(network, path)
        width = _reads(layer)
        if width is None:
            continue
        if width % old:
            raise ValueError(f'glue {path!r} behind {entry.path!r} reads {width} features, which {old} does not divide')
        set_module(network, path, refit(layer, width // old * new))
        changed.append(path)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            return changed, True
    return changed, False


def _reads(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    return getattr(layer, 'num_features', None)
