"""What a recasting's step keeps in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmrecast.algorithms import Recasting
from mmrecast.utils.modules import untouched


@dataclass(frozen=True)
class Memory:
    """Bytes that a step needs, but for what lives within one layer's call.

    Args:
        weights (int): Parameters and buffers of both networks.
        gradients (int): Of the parameters that train.
        optimizer (int): Adam's two moments of them.
        saved (int): What the forward pass keeps for the backward pass, weights aside; each storage once.
        cuda_peak (int, optional): ``torch.cuda.max_memory_allocated`` over a step; None on the CPU.
    """

    weights: int
    gradients: int
    optimizer: int
    saved: int
    cuda_peak: int | None

    @property
    def total(self) -> int:
        """int: What CUDA measured, the sum of the parts on the CPU."""
        return self.cuda_peak or self.weights + self.gradients + self.optimizer + self.saved


def saved_bytes(network: nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Return how many bytes a loss keeps for its backward pass, each storage once, the network's own left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output itself would hold the node that holds it

    with untouched(network, training=None), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = loss()  # what it keeps lives as long: no address comes twice
    assert kept_alive.requires_grad
    return sum(kept.values())


def memory_of(
    algorithm: Recasting, loss: Callable[[Tensor, dict], dict[str, Tensor]], batch: dict[str, Tensor]
) -> Memory:
    """Count what a step on ``loss`` keeps in memory while the parameters train that now require gradients."""
    data, networks = algorithm.data_preprocessor(batch, True), nn.ModuleList([algorithm.student, algorithm.teacher])
    held = {t.untyped_storage().data_ptr(): nbytes(t) for t in (*networks.parameters(), *networks.buffers())}
    trained = [p for p in algorithm.parameters() if p.requires_grad]
    gradients = sum(map(nbytes, trained))

    def total() -> Tensor:
        return sum(loss(**data).values())

    peak = cuda_peak(trained, total) if trained[0].is_cuda else None
    return Memory(sum(held.values()), gradients, 2 * gradients, saved_bytes(networks, total), peak)


def whole_memory(algorithm: Recasting, batch: dict[str, Tensor]) -> Memory:
    """Count the same where both networks run to their logits and all of the student trains."""
    flags = [(p, p.requires_grad) for p in algorithm.student.parameters()]
    algorithm.student.requires_grad_(True)

    def loss(inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = algorithm.teacher(inputs)
        return dict(loss=algorithm.kd_loss(algorithm.student(inputs), wanted))

    try:
        return memory_of(algorithm, loss, batch)
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def cuda_peak(trained: Sequence[Tensor], loss: Callable[[], Tensor]) -> int:
    """Return the most bytes that were allocated during a step of Adam, after a first one that makes its moments."""
    optimizer = torch.optim.Adam(trained, lr=0.0)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    peak = torch.cuda.max_memory_allocated()
    optimizer.zero_grad()
    return peak


def nbytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()
