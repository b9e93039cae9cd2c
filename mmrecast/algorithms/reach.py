"""Find out what a stage trains: the parameters and modules that lead from a cut to a tap."""

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from mmrecast.links.prefix import run_to
from mmrecast.surgery.chain import Shape
from mmrecast.utils.modules import device_of, get_module, hooked, untouched


def reached_by(
    network: nn.Module, tap: str | None, cut: str | None, input_shape: Shape, frozen: Iterable[str] = ()
) -> tuple[set[str], set[nn.Module]]:
    """Return what lies between the input of ``cut`` and the output of ``tap``.

    Args:
        network (nn.Module): Images → logits.
        tap (str, optional): Path of the last module; None for the logits.
        cut (str, optional): Path of the first module; None for the images.
        input_shape (tuple[int]): (C, H, W).
        frozen (Iterable[str]): Paths of modules to leave out. Defaults to none.

    Returns:
        tuple: Names of the parameters whose gradient the tap's output has, and the modules called meanwhile (with
        those that contain one).
    """
    left_out = {id(m) for path in frozen for m in get_module(network, path).modules()}
    excluded = {name for path in frozen for name, _ in get_module(network, path).named_parameters(prefix=path)}
    parameters = {n: p for n, p in network.named_parameters() if n not in excluded}
    wanted = {n: p.requires_grad for n, p in network.named_parameters()}
    called: set[nn.Module] = set()
    open_: list[bool] = [cut is None]

    def note(module, args):
        if open_[0] and id(module) not in left_out:
            called.add(module)

    def open_cut(x: Tensor) -> Tensor:
        open_[0] = True
        return x.detach()

    # The cut's own hook must run before `note` does, hence first.
    handles = []
    if cut is not None:
        cut_module = get_module(network, cut)
        handles.append(cut_module.register_forward_pre_hook(lambda m, args: (open_cut(args[0]),)))
    handles += [m.register_forward_pre_hook(note) for m in network.modules()]
    image = torch.zeros(2, *input_shape, device=device_of(network))
    with hooked(handles), untouched(network), torch.enable_grad():
        network.requires_grad_(True)
        output, _ = run_to(network, tap, image)
        grads = [None] * len(parameters)
        if output.requires_grad:  # a block without weights, alone, gives back what it got
            grads = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(wanted[name])
    reached = {name for (name, _), grad in zip(parameters.items(), grads, strict=True) if grad is not None}
    containers = {m for m in network.modules() if id(m) not in left_out and any(c in called for c in m.modules())}
    return reached, called | containers


def reached_through(
    algorithm: nn.Module, losses: Callable[[], Tensor], parts: Iterable[nn.Module], frozen: Collection[int] = ()
) -> tuple[set[str], set[nn.Module]]:
    """Return what a sum of losses reaches; modes, buffers and random numbers stay as they were.

    Args:
        algorithm (nn.Module): Whose parameters are meant.
        losses (Callable): Computes the sum.
        parts (Iterable[nn.Module]): Where to look for modules.
        frozen (Collection[int]): ``id`` of modules to leave out. Defaults to none.

    Returns:
        tuple: Names of the parameters whose gradient the losses have, and the modules called meanwhile (with those that
        contain one).
    """
    modules = list(dict.fromkeys(m for part in parts for m in part.modules()))
    own = {id(p) for m in modules if id(m) in frozen for p in m.parameters(recurse=False)}
    parameters = {n: p for n, p in algorithm.named_parameters() if id(p) not in own}
    wanted = {p: p.requires_grad for p in algorithm.parameters()}
    called: set[nn.Module] = set()

    def note(module, args):
        called.add(module)

    devices = [device_of(algorithm)] if device_of(algorithm).type == 'cuda' else []
    handles = [m.register_forward_pre_hook(note) for m in modules if id(m) not in frozen]
    with hooked(handles), untouched(algorithm), torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(0)
        for parameter in algorithm.parameters():
            parameter.requires_grad_(True)
        total = losses()
        grads = [None] * len(parameters)
        if total.requires_grad:
            grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)
    reached = {name for name, grad in zip(parameters, grads, strict=True) if grad is not None}
    containers = {m for m in modules if id(m) not in frozen and any(c in called for c in m.modules())}
    return reached, called | containers
