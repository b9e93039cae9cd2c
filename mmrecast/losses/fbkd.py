"""The loss of feature-based distillation for detectors; its inputs are made by the FBKD connectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.registry import MODELS

__all__ = ['FBKDLoss']


@MODELS.register_module()
class FBKDLoss(nn.Module):
    """Attention-guided, pooled and non-local distances of two features (FBKD, Zhang and Ma, ICLR 2021).

    The sum of four L2 norms, each over the whole batch: of the features' difference, weighted by the square root of the
    mean spatial mask; of the channels' means; of the means over channels; of the non-local relations.

    As in the authors' code and MMRazor, the channel mask is made but takes no part, and nothing is divided by the batch
    size. A gradient reaches the teacher's side only at its relation, for ``FBKDTeacherConnector``'s non-local block.

    Args:
        mask_l2_weight (float): Weight of the masked difference. Defaults to 7e-5.
        channel_weight (float): Weight of the channels' means. Defaults to 4e-3.
        spatial_weight (float): Weight of the means over channels. Defaults to 4e-3.
        nonloacl_weight (float): Weight of the non-local relations; spelt as in MMRazor. Defaults to 7e-5.
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
    """

    def __init__(
        self,
        mask_l2_weight: float = 7e-5,
        channel_weight: float = 4e-3,
        spatial_weight: float = 4e-3,
        nonloacl_weight: float = 7e-5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.mask_l2_weight = mask_l2_weight
        self.channel_weight = channel_weight
        self.spatial_weight = spatial_weight
        self.nonloacl_weight = nonloacl_weight
        self.loss_weight = loss_weight

    def forward(self, s_input: Sequence[Tensor], t_input: Sequence[Tensor]) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_input (tuple[Tensor, ...]): The six tensors of ``FBKDStudentConnector``.
            t_input (tuple[Tensor, ...]): The five tensors of ``FBKDTeacherConnector``.

        Raises:
            ValueError: They are not from these connectors, or the features' shapes differ.
        """
        if isinstance(s_input, Tensor) or isinstance(t_input, Tensor) or (len(s_input), len(t_input)) != (6, 5):
            raise ValueError(
                'FBKDLoss: needs connector=dict(type=FBKDStudentConnector) and '
                'teacher_connector=dict(type=FBKDTeacherConnector), which give six and five tensors'
            )
        s_mask, _, s_channel_pool, s_spatial_pool, s_relation, s_feature = s_input
        t_mask, _, t_spatial_pool, t_relation, t_feature = t_input
        check_same_shape(self, s_feature, t_feature)
        t_feature = t_feature.detach()
        mask = ((t_mask + s_mask) / 2).detach()  # (N, 1, H, W)
        norm = torch.linalg.vector_norm  # its gradient at 0 is 0, not nan
        return self.loss_weight * (
            self.mask_l2_weight * norm((t_feature - s_feature) * mask.sqrt())
            + self.channel_weight * norm(t_feature.mean((2, 3)) - s_channel_pool)
            + self.spatial_weight * norm(t_spatial_pool.detach() - s_spatial_pool)
            + self.nonloacl_weight * norm(t_relation - s_relation)
        )
