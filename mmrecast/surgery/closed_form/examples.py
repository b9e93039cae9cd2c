"""The maps a block is solved on: what it gets and what the teacher's block gives, kept for several passes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from mmrecast.surgery.closed_form.patches import CHUNK

KEPT = 2**28  # numbers: 1 GiB in float32
TRIED = 2**13  # positions on which ways are compared, and at least ``TRIED_ROWS`` per unknown
TRIED_ROWS = 8


@dataclass
class Examples:
    """Inputs of a target block and the outputs wanted of it.

    Args:
        x (list[Tensor]): Inputs (N, C, H, W), batch by batch.
        y (list[Tensor]): The teacher's outputs (N, C', H', W') before their last ReLU.
        relu (bool): Whether that ReLU exists. Defaults to False.
    """

    x: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)
    relu: bool = False

    @property
    def positions(self) -> int:
        """int: Positions of all output maps together."""
        return sum(y.shape[0] * y[0, 0].numel() for y in self.y)

    @property
    def map_size(self) -> int:
        """int: Positions of one output map."""
        return self.y[0][0, 0].numel()

    def wanted(self, y: Tensor) -> Tensor:
        """Return the teacher's output for one that is before its ReLU."""
        return y.relu() if self.relu else y

    def chunks(self, inputs: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x and y of so many images that their patches of ``inputs`` numbers stay within ``CHUNK``."""
        images = max(1, CHUNK // (inputs * self.map_size))
        for x_all, y_all in zip(self.x, self.y, strict=True):
            yield from zip(x_all.split(images), y_all.split(images), strict=True)

    def fewer(self, inputs: int) -> 'Examples':
        """Return evenly spaced images that suffice to compare ways to solve for ``inputs`` unknowns per output."""
        share = max(TRIED, TRIED_ROWS * inputs) / self.positions
        pairs = [evenly([x, y], share) for x, y in zip(self.x, self.y, strict=True)]
        return Examples([x for x, _ in pairs], [y for _, y in pairs], self.relu)


def share_kept(tensors: list[Tensor], images: int) -> float:
    """Return which share of ``images`` like those of ``tensors`` (N, …) can be kept within ``KEPT`` numbers."""
    each = sum(tensor[0].numel() for tensor in tensors)
    return min(1.0, KEPT / (each * images))


def evenly(tensors: list[Tensor], share: float) -> list[Tensor]:
    """Return evenly spaced images of each tensor (N, …), at least one, that are about ``share`` of them."""
    n = len(tensors[0])
    if share >= 1:
        return tensors
    kept = max(1, int(n * share))
    return [tensor[[i * n // kept for i in range(kept)]] for tensor in tensors]
