"""A norm layer as a connector."""

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from mmrecast.registry import MODELS, unknown_type

__all__ = ['NormConnector']


@MODELS.register_module()
class NormConnector(nn.Module):
    """A norm layer between a tap and a loss, which brings features of different scale together.

    Args:
        in_channels (int): Channels of the feature.
        norm_cfg (dict): mmcv's norm layer: ``dict(type='BN', affine=False)``.

    Raises:
        KeyError: There is no such norm layer.
    """

    def __init__(self, in_channels: int, norm_cfg: dict) -> None:
        super().__init__()
        if isinstance(norm_cfg.get('type'), str) and MODELS.get(norm_cfg['type']) is None:
            raise KeyError(f'NormConnector: {unknown_type(norm_cfg["type"], MODELS)}')
        self.in_channels = in_channels
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, feature: Tensor) -> Tensor:
        """Normalise (N, in_channels, H, W).

        Raises:
            ValueError: The feature has other channels.
        """
        if feature.dim() < 2 or feature.shape[1] != self.in_channels:
            raise ValueError(f'NormConnector: (N, {self.in_channels}, …) expected, got {tuple(feature.shape)}')
        return self.norm(feature)
