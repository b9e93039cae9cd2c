"""Squared Euclidean distance between two activations."""

import torch
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.losses.pairs import unit
from mmrecast.registry import MODELS

__all__ = ['L2Loss']


@MODELS.register_module()
class L2Loss(nn.Module):
    """‖s − t‖² per sample, averaged over the batch, by default between vectors of norm ``mult``.

    Names, defaults and numbers are those of MMRazor. With ``normalize=False`` and ``loss_weight=0.5`` it is the loss
    ½‖z_s − z_t‖² on logits of Ba and Caruana (2014: Section 2.2).

    Args:
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.
        normalize (bool): Whether each sample is flattened and scaled to the norm ``mult`` first. Defaults to True.
        mult (float): That norm; without ``normalize`` it is not used. Defaults to 1.0.
        div_element (bool): Whether to divide by the number of elements in place of the batch size. Defaults to False.
        dist (bool): Whether to give the plain distance of the two batches instead, the root of the sum of all squares,
            divided by nothing. Defaults to False.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        normalize: bool = True,
        mult: float = 1.0,
        div_element: bool = False,
        dist: bool = False,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.normalize = normalize
        self.mult = mult
        self.div_element = div_element
        self.dist = dist

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's tensor (N, …).
            t_feature (Tensor): The teacher's tensor, of the same shape.

        Raises:
            ValueError: The shapes differ: nothing is broadcast.
        """
        check_same_shape(self, s_feature, t_feature)
        difference = self._scaled(s_feature) - self._scaled(t_feature.detach())
        if self.dist:
            return self.loss_weight * torch.linalg.vector_norm(difference)  # its gradient at 0 is 0, not NaN
        loss = difference.square().sum() / (difference.numel() if self.div_element else len(difference))
        return self.loss_weight * loss

    def _scaled(self, feature: Tensor) -> Tensor:
        """Scale each sample to the norm ``mult``; one of zeros alone stays as it is."""
        return self.mult * unit(feature.flatten(1), dim=1) if self.normalize else feature
