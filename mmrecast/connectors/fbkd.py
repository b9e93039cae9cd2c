"""What ``FBKDLoss`` compares: attention masks, pooled features and non-local relations of a detector's feature."""

import torch
from mmcv.cnn import NonLocal2d
from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.utils.names import nearest

__all__ = ['FBKDConnector', 'FBKDStudentConnector', 'FBKDTeacherConnector']

MODES = ('gaussian', 'embedded_gaussian', 'dot_product', 'concatenation')


class FBKDConnector(nn.Module):
    """What both sides of FBKD share (Zhang and Ma, ICLR 2021): the masks and the non-local block.

    Args:
        in_channels (int): Channels of the feature; the same on both sides.
        reduction (int): The non-local block works on ``in_channels // reduction`` channels. Defaults to 2.
        conv_cfg (dict): Its convolutions. Defaults to ``dict(type='Conv2d')``.
        norm_cfg (dict): The norm behind its last convolution. Defaults to ``dict(type='BN')``.
        mode (str): How places are compared, one of :data:`MODES`. Defaults to 'dot_product'.
        sub_sample (bool): Max-pool keys and values, by 2 and once more by ``maxpool_stride``: twice, as in MMRazor.
            Defaults to False.
        maxpool_stride (int): Defaults to 2.
        zeros_init (bool): Let the block begin as the identity. Defaults to True.
        spatial_T (float): Temperature of the spatial mask. Defaults to 0.5.
        channel_T (float): Temperature of the channel mask. Defaults to 0.5.

    Raises:
        ValueError: A temperature is not positive, or there is no such ``mode``.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        conv_cfg: dict = dict(type='Conv2d'),
        norm_cfg: dict = dict(type='BN'),
        mode: str = 'dot_product',
        sub_sample: bool = False,
        maxpool_stride: int = 2,
        zeros_init: bool = True,
        spatial_T: float = 0.5,
        channel_T: float = 0.5,
    ) -> None:
        super().__init__()
        if not (spatial_T > 0 and channel_T > 0):
            raise ValueError(
                f'{type(self).__name__}: temperatures must be positive, got spatial_T={spatial_T}, '
                f'channel_T={channel_T}'
            )
        if mode not in MODES:
            raise ValueError(f'{type(self).__name__}: there is no mode {mode!r}{nearest(str(mode), MODES)}')
        self.in_channels = in_channels
        self.spatial_T = spatial_T
        self.channel_T = channel_T
        self.least = 2 * maxpool_stride if sub_sample else 1  # the smallest height or width that pooling leaves some of
        self.non_local = NonLocal2d(
            in_channels,
            sub_sample=sub_sample,
            reduction=reduction,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            mode=mode,
            zeros_init=zeros_init,
        )
        if sub_sample:  # on top of mmcv's own pooling by 2
            pool = nn.MaxPool2d(maxpool_stride)
            self.non_local.g = nn.Sequential(self.non_local.g, pool)
            self.non_local.phi = nn.Sequential(self.non_local.phi, pool)
        self.add_layers()

    def add_layers(self) -> None:
        """Build what one side alone has."""

    def masks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spatial mask (N, 1, H, W), which sums to H·W, and the channel mask (N, C, 1, 1), to C.

        Raises:
            ValueError: The feature has other channels, or is too small for the pooling.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.least:
            raise ValueError(
                f'{type(self).__name__}: (N, {self.in_channels}, H, W) with H and W of at least {self.least} '
                f'expected, got {tuple(x.shape)}'
            )
        n, c, h, w = x.shape
        strength = x.abs()
        spatial = torch.softmax(strength.mean(1).flatten(1) / self.spatial_T, dim=1) * (h * w)
        channel = torch.softmax(strength.mean((2, 3)) / self.channel_T, dim=1) * c
        return spatial.view(n, 1, h, w), channel.view(n, c, 1, 1)


@MODELS.register_module()
class FBKDTeacherConnector(FBKDConnector):
    """The teacher's side of FBKD; arguments as in :class:`FBKDConnector`."""

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Return spatial mask, channel mask, mean over channels (N, 1, H, W), relation and feature (N, C, H, W)."""
        return (*self.masks(feature), feature.mean(1, keepdim=True), self.non_local(feature), feature)


@MODELS.register_module()
class FBKDStudentConnector(FBKDConnector):
    """The student's side of FBKD with its adapting layers; arguments as in :class:`FBKDConnector`."""

    def add_layers(self) -> None:
        """Build the four adaptations."""
        c = self.in_channels
        self.channel_wise_adaptation = nn.Linear(c, c)
        self.spatial_wise_adaptation = nn.Conv2d(1, 1, 3, padding=1)
        self.adaptation_layers = nn.Conv2d(c, c, 1)
        self.non_local_adaptation = nn.Conv2d(c, c, 1)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        """Return the masks and the adapted channel means (N, C), mean over channels, relation and feature."""
        return (
            *self.masks(feature),
            self.channel_wise_adaptation(feature.mean((2, 3))),
            self.spatial_wise_adaptation(feature.mean(1, keepdim=True)),
            self.non_local_adaptation(self.non_local(feature)),
            self.adaptation_layers(feature),
        )
