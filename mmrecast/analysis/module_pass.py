"""Time single modules as they run in a network: on inputs in shared memory, in a row on a GPU."""

import time
from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor, nn

CALLS = 10  # passes on a GPU in a row, as in a network: else every layer would wait for its launch


class ModulePass:
    """Runs a module on each of its inputs and returns the milliseconds.

    Args:
        module (nn.Module): What is timed.
        inputs (Sequence[Tensor]): Each is one call.
        wait (Callable): Waits for the device.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor], wait: Callable[[], None]) -> None:
        self.module, self.inputs, self.wait = module, inputs, wait
        self.calls = CALLS if inputs[0].is_cuda else 1

    def __call__(self) -> list[float]:
        self.wait()
        start = time.perf_counter()
        for _ in range(self.calls):
            for x in self.inputs:
                self.module(x)
        self.wait()
        return [(time.perf_counter() - start) * 1000 / self.calls]


def view_of(memory: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Return the beginning of ``memory`` (elements,) in a shape, a map laid out as (N, H, W, C) if asked for."""
    if channels_last and len(shape) == 4:
        n, c, h, w = shape
        return memory[: prod(shape)].view(n, h, w, c).permute(0, 3, 1, 2)
    return memory[: prod(shape)].view(shape)
