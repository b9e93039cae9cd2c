"""Forward passes that stop at a tap, or begin behind one: nothing behind it, or before it, is computed."""

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn

from mmrecast.utils.modules import get_module, hooked, untouched

TRIED = 20  # modules, from the last one backwards


class Reached(BaseException):
    """Carries the tap's activation out of the forward pass, past any ``except Exception`` of the network."""

    def __init__(self, output: Tensor | None) -> None:
        super().__init__()
        self.output = output


def run_to(
    network: nn.Module,
    tap: str | None,
    inputs: Tensor,
    read: str | None = None,
    feed: tuple[str, Callable[[Tensor], Tensor]] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run ``network`` up to and including the module at ``tap``.

    Args:
        network (nn.Module): Images → logits.
        tap (str, optional): Path of the module to stop behind; None runs to the logits.
        inputs (Tensor): (N, C, H, W).
        read (str, optional): Path of a module whose input is returned, too. Defaults to None.
        feed (tuple, optional): (path, function): what the module at this path gets instead of its input, computed from
            it. Defaults to None.

    Returns:
        tuple: The tap's output, and the input read (a copy, since modules may work in place) or None without ``read``.

    Raises:
        KeyError: A path does not exist.
        ValueError: The network does not call the tap.
    """
    seen: list[Tensor] = []
    handles = []

    def stop(module, args, out):
        raise Reached(out)

    with hooked(handles):
        if tap is not None:
            handles.append(get_module(network, tap).register_forward_hook(stop))
        if read is not None:
            note = get_module(network, read).register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
            handles.append(note)
        if feed is not None:
            path, function = feed
            handles.append(get_module(network, path).register_forward_pre_hook(lambda m, args: (function(args[0]),)))
        try:
            output = network(inputs)
        except Reached as reached:
            return reached.output, seen[0] if seen else None
    if tap is not None:
        raise ValueError(f'{type(network).__name__} does not call {tap!r} in its forward pass')
    return output, seen[0] if seen else None


class Suffix:
    """The part of a network behind one module, which can run on an output of that module that is known already.

    Modules before it are not computed: each gives an empty tensor of the shape it would have, which nothing behind the
    module may read. A dry run checks that.

    Args:
        network (nn.Module): Images → logits.
        path (str): Path of the module; it must be called once.
        images (Tensor): A few images (N, C, H, W) to try it on; modes, buffers and random numbers stay as they are.
        included (bool): Whether the module itself is computed, too: then its input is what is known. Defaults to False.

    Raises:
        ValueError: The network does not call the module exactly once, or what is behind it reads what was before it.
    """

    def __init__(self, network: nn.Module, path: str, images: Tensor, included: bool = False) -> None:
        self.path, self.included = path, included
        inside = set(get_module(network, path).modules())
        names = {module: name for name, module in network.named_modules()}
        ended: list[nn.Module] = []
        outputs: dict[str, object] = {}
        inputs: list[Tensor] = []  # of the module at ``path``, which may work in place

        def enter(module: nn.Module, args: tuple) -> None:
            inputs.extend(x.clone() for x in args[:1] if isinstance(x, Tensor))

        def leave(module: nn.Module, args: tuple, out: object) -> None:
            ended.append(module)
            outputs[names[module]] = out

        with untouched(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
            handles = [module.register_forward_hook(leave) for module in network.modules()]
            with hooked([get_module(network, path).register_forward_pre_hook(enter), *handles]):
                logits = network(images)
            known = inputs if included else [outputs.get(path)]
            if ended.count(get_module(network, path)) != 1 or [type(x) for x in known] != [Tensor]:
                does, where = ('takes', 'at') if included else ('gives', 'behind')
                raise ValueError(
                    f'{path!r} is not called exactly once, or {does} no tensor: nothing can begin {where} it'
                )
            before = ended[: ended.index(get_module(network, path))]
            whole = [m for m in dict.fromkeys(before) if m not in inside and before.count(m) == ended.count(m)]
            within = {child for module in whole for child in module.modules() if child is not module}
            self._shapes = {
                names[module]: tuple(outputs[names[module]].shape[1:])
                for module in whole
                if module not in within and isinstance(outputs[names[module]], Tensor)
            }
            self._blank = float('nan')
            again = self(network, lambda: network(torch.full_like(images, float('nan'))), known[0].clone())
            self._blank = None
        if not torch.allclose(logits, again, rtol=1e-3, atol=1e-5):
            raise ValueError(f'what is behind {path!r} reads what was before it: nothing can begin there')

    @property
    def skipped(self) -> tuple[str, ...]:
        """tuple[str]: Paths of the modules that are not run, the outermost ones."""
        return (*self._shapes, *(() if self.included else (self.path,)))

    def __call__(self, network: nn.Module, run: Callable[[], Tensor], known: Tensor) -> Tensor:
        """Return what ``run``, a forward pass of ``network``, gives where ``known`` is the module's output (input)."""

        def blank(*args, shape: tuple[int, ...], **kwargs) -> Tensor:
            empty = known.new_empty((len(known), *shape))
            return empty if self._blank is None else empty.fill_(self._blank)

        stubs = {path: partial(blank, shape=shape) for path, shape in self._shapes.items()}
        handles = []
        if self.included:
            handles.append(get_module(network, self.path).register_forward_pre_hook(lambda *_: (known,)))
        else:
            stubs[self.path] = lambda *args, **kwargs: known
        modules = {get_module(network, path): stub for path, stub in stubs.items()}
        try:
            for module, stub in modules.items():
                module.__dict__['forward'] = stub
            with hooked(handles):
                return run()
        finally:
            for module in modules:
                del module.__dict__['forward']


def last_before(network: nn.Module, paths: Collection[str], images: Tensor) -> Suffix:
    """Return what is behind the last module with which a network can begin before any of ``paths`` is reached.

    Args:
        network (nn.Module): Images → logits.
        paths (Collection[str]): Modules that must be behind it.
        images (Tensor): A few images (N, C, H, W) to try it on.

    Raises:
        ValueError: There is none.
    """
    ended: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ended.append(name))
        for name, module in network.named_modules()
        if name
    ]

    def stop(*args) -> None:
        raise Reached(None)

    with hooked(handles), untouched(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        handles += [get_module(network, path).register_forward_pre_hook(stop) for path in paths]
        with suppress(Reached):
            network(images)
    for path in reversed(ended[-TRIED:]):
        with suppress(ValueError):
            return Suffix(network, path, images)
    raise ValueError(f'{type(network).__name__} has no module before {min(paths)!r} behind which it could begin')
