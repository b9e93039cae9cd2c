"""A linear map of an image's whole feature, as a connector."""

import math

from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['LinearEmbed']


@MODELS.register_module()
class LinearEmbed(nn.Module):
    """Flatten a feature and embed it by one linear layer with bias, as RepDistiller does for correlation congruence.

    Args:
        dim_in (int): Elements of the feature per image. In a link it is inferred.
        dim_out (int): Length of the embedding. Defaults to 128.
    """

    def __init__(self, dim_in: int, dim_out: int = 128) -> None:
        super().__init__()
        self.linear = nn.Linear(dim_in, dim_out)

    @classmethod
    def infer(cls, own: tuple[int, ...], other: tuple[int, ...] | None) -> dict:
        """Return ``dim_in`` from the feature's shape without the batch."""
        return dict(dim_in=math.prod(own))

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, …) of ``dim_in`` elements per image to (N, dim_out).

        Raises:
            ValueError: The feature has another number of elements.
        """
        expected = self.linear.in_features
        if feature.dim() < 2 or feature[0].numel() != expected:
            raise ValueError(
                f'{type(self).__name__}: (N, …) with {expected} elements per image expected, got {tuple(feature.shape)}'
            )
        return self.linear(feature.flatten(1))
