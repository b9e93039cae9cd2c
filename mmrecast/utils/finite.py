"""Which of a network's numbers are not finite: NaN or infinity."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


def weights_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a network's parameters and BN's statistics with their names; other buffers may hold infinity rightly."""
    yield from network.named_parameters()
    yield from ((n, b) for n, b in network.named_buffers() if n.endswith(('running_mean', 'running_var')))


@torch.no_grad()
def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, None where none does.

    All are looked at in one go: the host waits once.
    """
    named = [(name, tensor) for name, tensor in named if tensor.is_floating_point() and tensor.numel()]
    if not named:
        return None
    device = named[0][1].device
    flags = torch.stack([tensor.isfinite().all().to(device) for _, tensor in named]).tolist()
    return next((name for (name, _), finite in zip(named, flags, strict=True) if not finite), None)


def not_finite_samples(images: Tensor) -> list[int]:
    """Return the positions of the images (N, …) that hold NaN or infinity."""
    return (~images.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
