"""Probabilistic knowledge transfer: how likely an image is to pick another one as its neighbour."""

from torch import Tensor, nn

from mmrecast.losses.checks import check_positive
from mmrecast.losses.pairs import rows, unit
from mmrecast.registry import MODELS

__all__ = ['PKTLoss']


@MODELS.register_module()
class PKTLoss(nn.Module):
    """KL(P_t ‖ P_s) between how likely each image picks the others as neighbours.

    Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer" (ECCV 2018). P_ij = k_ij /
    Σ_j k_ij with the kernel k_ij = (cos(f_i, f_j) + 1) / 2. The numbers are RepDistiller's (from the authors' code):
    the mean over all N² pairs, an image counting among its own neighbours.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0. (RepDistiller: 30000.)
        eps (float): Added to norms and probabilities. Defaults to 1e-7.

    Raises:
        ValueError: ``eps`` is not positive.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 1e-7) -> None:
        super().__init__()
        check_positive(self, 'eps', eps)
        self.loss_weight = loss_weight
        self.eps = eps

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's features (N, …), flattened per image.
            t_feature (Tensor): The teacher's (N, …); only N must agree.

        Raises:
            ValueError: The numbers of images differ.
        """
        student, teacher = map(self._neighbours, rows(self, s_feature, t_feature))  # (N, N)
        return self.loss_weight * (teacher * ((teacher + self.eps) / (student + self.eps)).log()).mean()

    def _neighbours(self, features: Tensor) -> Tensor:
        features = unit(features, 1, self.eps)
        kernel = (features @ features.T + 1) / 2
        return kernel / kernel.sum(1, keepdim=True)
