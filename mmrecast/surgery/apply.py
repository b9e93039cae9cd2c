"""Carry a plan out on a network: one step at a time while training, all steps at once to rebuild a student."""

import torch
from torch import nn

from mmrecast.registry import BLOCKS
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.describe import rebuild, refit
from mmrecast.surgery.plan import Plan, PlanEntry
from mmrecast.utils.modules import device_of, get_module, hooked, untouched


def apply_step(network: nn.Module, plan: Plan, step: int) -> list[str]:
    """Replace the block of entry ``step`` by its target and fit what follows to the target's width, in place.

    The next block is rebuilt (same type, other input width) where the width changes, glue in between likewise; where it
    does not, they are left alone. New modules have their constructors' weights.

    Returns:
        list[str]: Paths of the modules that are new.

    Raises:
        ValueError: The next block cannot be rebuilt, or nothing behind the last block takes up its width.
    """
    entry = plan.entries[step]
    target = BLOCKS.build(dict(entry.target)).to(device_of(network)).train(get_module(network, entry.path).training)
    network.set_submodule(entry.path, target, strict=True)
    new = [entry.path]
    if entry.out_channels == entry.out_shape[0]:
        return new
    changed, taken_up = _fit_glue(network, entry)
    new += changed
    path = plan.tap(step)
    if path is None and not taken_up:
        raise ValueError(
            f'the width of {entry.path!r} would change from {entry.out_shape[0]} to {entry.out_channels}, but nothing '
            'behind it can take that up: keep the width (out_channels)'
        )
    if path is not None and not taken_up:
        try:
            block = rebuild(get_module(network, path), entry.out_channels)
        except ValueError as error:
            raise ValueError(f'block {path!r} behind {entry.path!r}: {error}') from error
        network.set_submodule(path, block, strict=True)
        new.append(path)
    return new


def replay(network: nn.Module, plan: Plan) -> nn.Module:
    """Apply every step of ``plan`` to ``network``, in place, and return it.

    Raises:
        ValueError: The plan does not fit the network.
    """
    for entry in plan.entries:
        try:
            get_module(network, entry.path)
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
        ValueError: A target gives another size of map than its source, or does not accept its input.
    """
    replay(network, plan)
    current: list[str] = []

    def enter(entry: PlanEntry):
        return lambda module, args: current.append(entry.path)

    def leave(entry: PlanEntry):
        def hook(module, args, out):
            expected: Shape = (entry.out_channels, *entry.out_shape[1:])
            if tuple(out.shape[1:]) != expected:
                raise ValueError(
                    f'target {entry.target["type"]} of block {entry.path!r} gives {tuple(out.shape[1:])} where '
                    f'{expected} is needed'
                )

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
        except RuntimeError as error:
            where = f'in or behind block {current[-1]!r}' if current else 'before the first block'
            raise ValueError(f'the recast network does not run {where}: {str(error).splitlines()[0]}') from error
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
        network.set_submodule(path, refit(layer, width // old * new), strict=True)
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
