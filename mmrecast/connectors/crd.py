"""The embedding of contrastive representation distillation."""

import torch.nn.functional as F
from torch import Tensor

from mmrecast.connectors.linear import LinearEmbed
from mmrecast.registry import MODELS

__all__ = ['CRDConnector']


@MODELS.register_module()
class CRDConnector(LinearEmbed):
    """Flatten a feature, embed it by one linear layer with bias, divide it by its L2 norm.

    Tian et al., "Contrastive Representation Distillation" (ICLR 2020). Names, defaults and numbers are those of
    MMRazor's connector of the same name.

    Args:
        dim_in (int): Elements of the feature per image. Defaults to 1024; in a link it is inferred.
        dim_out (int): Length of the embedding. Defaults to 128.
    """

    def __init__(self, dim_in: int = 1024, dim_out: int = 128) -> None:
        super().__init__(dim_in, dim_out)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, …) of ``dim_in`` elements per image to (N, dim_out), of length 1.

        Raises:
            ValueError: The feature has another number of elements.
        """
        return F.normalize(super().forward(feature), dim=1)
