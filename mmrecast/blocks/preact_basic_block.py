"""The pre-activation basic block of Wide ResNets."""

from torch import Tensor, nn

from mmrecast.blocks.base import TargetBlock, check_positive
from mmrecast.blocks.solvable import Solvable
from mmrecast.registry import BLOCKS

__all__ = ['PreActBasicBlock']


@BLOCKS.register_module()
class PreActBasicBlock(TargetBlock):
    """Twice BN, ReLU and a 3x3 convolution, and a shortcut (Zagoruyko and Komodakis 2016); the output is the plain sum.

    Where channels or size change, the shortcut is a 1x1 convolution of the activated input.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution and of the shortcut. Defaults to 1.
        mid_channels (int | None): Channels between the convolutions. Defaults to ``out_channels``.
        dropout (float): Probability of dropping an activation between the convolutions, in [0, 1). Defaults to 0.

    Raises:
        ValueError: A size is not positive, or ``dropout`` is no such probability.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        mid_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        mid = out_channels if mid_channels is None else mid_channels
        check_positive(self, in_channels=in_channels, out_channels=out_channels, stride=stride, mid_channels=mid)
        if not 0 <= dropout < 1:
            raise ValueError(f'PreActBasicBlock: dropout must be in [0, 1), got {dropout!r}')
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, mid, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(mid, out_channels, 3, 1, 1, bias=False)
        changes = in_channels != out_channels or stride != 1
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else nn.Identity()

    def solvable(self) -> Solvable:
        """Return the second convolution and the projection; the first convolution is hidden."""
        plain = isinstance(self.shortcut, nn.Identity)
        terms = ((self.conv2, None),) if plain else ((self.conv2, None), (self.shortcut, None))
        return Solvable(terms, ((self.conv1, self.bn2),), self.shortcut if plain else None, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
        return out + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(active))
