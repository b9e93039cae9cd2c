"""He et al.'s ResNets for 32x32 images."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.blocks import BasicBlock, Bottleneck
from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['CifarResNet']

# block -> (class, convolutions per block, output width over inner width)
_BLOCKS = {'basic': (BasicBlock, 2, 1), 'bottleneck': (Bottleneck, 3, 4)}
_SHORTCUTS = {'A': 'pad', 'B': 'projection'}


@MODELS.register_module()
class CifarResNet(BaseModule):
    """The CIFAR ResNets of He et al. (2016), section 4.2: a 3x3 stem and three stages, two with stride 2.

    Args:
        depth (int): 6n+2 with basic blocks (20, 32, 44, 56, 110), 9n+2 with bottlenecks (29, 56, 83, 164).
        block (str): ``'basic'`` or ``'bottleneck'``. Defaults to ``'basic'``.
        shortcut (str): ``'A'`` (zero padding) or ``'B'`` (1x1 projection) where channels or size change.
            Defaults to ``'A'``.
        widths (tuple[int, int, int]): Inner widths of the stages; a bottleneck's output has four times as
            many channels. Defaults to (16, 32, 64).
        in_channels (int): Channels of the image. Defaults to 3.
        stem_width (int | None): Filters of the stem. Defaults to None: as many as stage 1's inner width. (ResNet-32x4
            and 8x4 of RepDistiller have 32 before stages of 64, 128 and 256.)
        init_cfg (dict | list[dict] | None): mmengine's initialisation, applied by ``init_weights()``.
            Defaults to None: PyTorch's own.

    Raises:
        ValueError: The depth does not fit the block, or another argument is not one of the above.
    """

    def __init__(
        self,
        depth: int,
        block: str = 'basic',
        shortcut: str = 'A',
        widths: tuple[int, int, int] = (16, 32, 64),
        in_channels: int = 3,
        stem_width: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if block not in _BLOCKS:
            raise ValueError(f'CifarResNet: unknown block {block!r}{nearest(str(block), _BLOCKS)}')
        if shortcut not in _SHORTCUTS:
            raise ValueError(f"CifarResNet: shortcut must be 'A' or 'B', got {shortcut!r}")
        if len(widths) != 3 or not all(isinstance(w, int) and w > 0 for w in (*widths, in_channels)):
            raise ValueError(
                f'CifarResNet: three positive widths and positive in_channels expected, got {widths} and {in_channels}'
            )
        stem = widths[0] if stem_width is None else stem_width
        if isinstance(stem, bool) or not isinstance(stem, int) or stem < 1:
            raise ValueError(f'CifarResNet: stem_width must be a positive whole number or None, got {stem_width!r}')
        block_class, convs, expansion = _BLOCKS[block]
        per_stage = 3 * convs
        if not isinstance(depth, int) or depth < per_stage + 2 or (depth - 2) % per_stage:
            raise ValueError(f'CifarResNet: depth must be {per_stage}n+2 with {block} blocks, got {depth!r}')

        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        channels = stem
        for stage, width in enumerate(widths, start=1):
            blocks = []
            for index in range((depth - 2) // per_stage):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(
                    block_class(
                        channels,
                        width * expansion,
                        stride,
                        mid_channels=width,
                        shortcut=_SHORTCUTS[shortcut],
                    )
                )
                channels = width * expansion
            setattr(self, f'layer{stage}', nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images (N, C, H, W) to a tuple with the last stage's map (N, C', H/4, W/4)."""
        x = self.relu(self.bn1(self.conv1(x)))
        return (self.layer3(self.layer2(self.layer1(x))),)
