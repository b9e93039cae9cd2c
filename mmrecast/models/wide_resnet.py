"""Wide ResNets for 32x32 images."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.blocks import PreActBasicBlock
from mmrecast.registry import MODELS

__all__ = ['WideResNet']


@MODELS.register_module()
class WideResNet(BaseModule):
    """WRN-depth-k of Zagoruyko and Komodakis (2016): a stem of 16 filters, stages of 16k, 32k and 64k, BN, ReLU.

    Args:
        depth (int): 6n+4 (16, 22, 28, 40). Defaults to 28.
        widen_factor (int): k. Defaults to 10.
        dropout (float): Probability between the convolutions of a block. Defaults to 0.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict] | None): mmengine's initialisation. Defaults to None: PyTorch's own.

    Raises:
        ValueError: The depth is not 6n+4, or another argument is not positive.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(depth, int) or depth < 10 or (depth - 4) % 6:
            raise ValueError(f'WideResNet: depth must be 6n+4, got {depth!r}')
        if not all(isinstance(n, int) and n > 0 for n in (widen_factor, in_channels)):
            raise ValueError(
                f'WideResNet: positive widen_factor and in_channels expected, got {widen_factor!r} and {in_channels!r}'
            )
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        channels = 16
        for stage in (1, 2, 3):
            width, blocks = 16 * widen_factor * 2 ** (stage - 1), []
            for index in range((depth - 4) // 6):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(PreActBasicBlock(channels, width, stride, dropout=dropout))
                channels = width
            setattr(self, f'layer{stage}', nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images (N, C, H, W) to a tuple with the last stage's activated map (N, 64k, H/4, W/4)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return (self.relu(self.bn(x)),)
