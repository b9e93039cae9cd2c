"""VGG networks for 32x32 images."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['CifarVGG']

_CONVS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@MODELS.register_module()
class CifarVGG(BaseModule):
    """VGG for 32x32 images: five stages of 3x3 convolutions, each with BN and ReLU and a max-pooling behind the stage,
    then the mean of what is left of the map.

    Modules stand where torchvision has them: ``features.0`` is a convolution, ``features.1`` its BN.

    Args:
        depth (int): 8, 11, 13, 16 or 19; counted as in Simonyan and Zisserman (2015), though fewer layers follow the
            convolutions here. Defaults to 16.
        hidden (int | None): Width of the one hidden fully connected layer (Network Recasting has 512); None for a
            classifier directly on the pooled map. Defaults to 512.
        widths (Sequence[int]): Filters of the stages. Defaults to (64, 128, 256, 512, 512).
        batch_norm (bool): BN behind every convolution. Defaults to True.
        in_channels (int): Channels of the image. Defaults to 3.
        pools (int): How many stages, from the first on, have a max-pooling behind them. Defaults to 5. (RepDistiller's
            VGGs have 3, so that stages 4 and 5 see 4x4 pixels.)
        init_cfg (dict | list[dict] | None): mmengine's initialisation. Defaults to None: PyTorch's own.

    Raises:
        ValueError: An argument is none of the above.
    """

    def __init__(
        self,
        depth: int = 16,
        hidden: int | None = 512,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        batch_norm: bool = True,
        in_channels: int = 3,
        pools: int = 5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth not in _CONVS:
            raise ValueError(f'CifarVGG: unknown depth {depth!r}{nearest(str(depth), map(str, _CONVS))}')
        sizes = (*widths, in_channels, 1 if hidden is None else hidden)
        if len(widths) != 5 or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(
                'CifarVGG: five positive widths, positive in_channels and hidden (or None) expected, '
                f'got {widths}, {in_channels!r} and {hidden!r}'
            )
        if isinstance(pools, bool) or not isinstance(pools, int) or not 0 <= pools <= 5:
            raise ValueError(f'CifarVGG: pools must be a whole number from 0 to 5, got {pools!r}')
        layers, channels = [], in_channels
        for stage, (convs, width) in enumerate(zip(_CONVS[depth], widths, strict=True)):
            for _ in range(convs):
                layers.append(nn.Conv2d(channels, width, 3, 1, 1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers += [nn.MaxPool2d(2)] if stage < pools else []
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.out_channels = channels if hidden is None else hidden

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map images (N, C, H, W), H and W at least 2^pools, to a tuple with features (N, out_channels)."""
        return (self.hidden(self.flatten(self.pool(self.features(x)))),)
