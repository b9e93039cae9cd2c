"""The regressor of variational information distillation."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['VIDConnector']


@MODELS.register_module()
class VIDConnector(nn.Module):
    """Three 1x1 convolutions without bias, ReLU between: the mean of the teacher's map given the student's.

    Ahn et al., "Variational Information Distillation for Knowledge Transfer" (CVPR 2019); layers and sizes are
    RepDistiller's.

    Args:
        in_channels (int): Channels of the student's map. In a link it is inferred.
        out_channels (int): Channels of the teacher's. In a link it is inferred.
        mid_channels (int | None): Channels between. Defaults to None: ``out_channels``.
        pool_size (tuple[int, int] | None): Height and width that the map is averaged down to first. Defaults to None:
            it stays; in a link the teacher's, where that is smaller.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int | None = None,
        pool_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        mid = out_channels if mid_channels is None else mid_channels
        self.in_channels = in_channels
        self.pool_size = None if pool_size is None else tuple(pool_size)
        self.regressor = nn.Sequential(
            nn.Conv2d(in_channels, mid, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(mid, mid, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(mid, out_channels, 1, bias=False),
        )

    @classmethod
    def infer(cls, own: tuple[int, ...], other: tuple[int, ...] | None) -> dict:
        """Return ``pool_size`` where the other side's map (C, H, W) is smaller."""
        if other is None or len(own) != 3 or len(other) != 3:
            return {}
        size = tuple(map(min, own[1:], other[1:]))
        return {} if size == tuple(own[1:]) else dict(pool_size=size)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W), or to ``pool_size``.

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        if feature.dim() != 4 or feature.shape[1] != self.in_channels:
            raise ValueError(f'VIDConnector: (N, {self.in_channels}, H, W) expected, got {tuple(feature.shape)}')
        if self.pool_size is not None:
            feature = F.adaptive_avg_pool2d(feature, self.pool_size)
        return self.regressor(feature)
