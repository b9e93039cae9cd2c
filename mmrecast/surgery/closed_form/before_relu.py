"""What goes into the last ReLU of a block of any class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_RELUS = {F.relu, torch.relu, torch.relu_, F.relu_, Tensor.relu, Tensor.relu_}


class _LastReLU(TorchFunctionMode):
    """Keeps what went into the last ReLU called, be it a module, a function or a method."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _RELUS:
            self.before = (args[0] if args else kwargs['input']).detach().clone()
        return func(*args, **(kwargs or {}))


def pre_relu_output(block: nn.Module, x: Tensor) -> tuple[Tensor, bool]:
    """Return the output of ``block`` for ``x`` before its last ReLU, and True; its output and False without one."""
    with _LastReLU() as last, torch.no_grad():
        out = block(x.clone())  # a block may begin with a ReLU in place
    ends_with_relu = (
        last.before is not None and last.before.shape == out.shape and torch.equal(last.before.clamp_min(0), out)
    )
    return (last.before, True) if ends_with_relu else (out, False)
