"""No block at all: what comes in goes out."""

from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.blocks.solvable import Solvable
from mmrecast.registry import BLOCKS

__all__ = ['Skip']


@BLOCKS.register_module()
class Skip(TargetBlock):
    """The identity: the source block is left out (LANA, NeurIPS 2022, has it among its candidates).

    It has no weights, so that its own stage trains only what leads to it; where nothing else may train, that stage has
    no iterations.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output; as many.
        stride (int): 1, since it keeps the map. Defaults to 1.

    Raises:
        ValueError: The source block changes the width or the size of the map.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride)
        if (in_channels, stride) != (out_channels, 1):
            raise ValueError(
                f'Skip: a block can be left out only where it keeps width and size of the map, not with {in_channels} '
                f'→ {out_channels} channels and stride {stride}'
            )

    def solvable(self) -> Solvable:
        """Return that there is nothing to solve for."""
        return Solvable((), skip=nn.Identity(), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) as it is."""
        return x
