"""FSP: how a network goes from one layer to the next."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['FSPLoss']


@MODELS.register_module()
class FSPLoss(nn.Module):
    """Sum over consecutive layers of the mean of (G_s − G_t)², with the FSP matrix G = F1ᵀ F2 / (h·w) per image.

    Yim, Joo, Bae and Kim, "A Gift from Knowledge Distillation" (CVPR 2017), all weights λ being 1. F1 and F2 are a
    layer and the next one as matrices (h·w, channels); where their sizes differ, the larger is average-pooled to the
    smaller height and width, as in RepDistiller. Student and teacher need the same channels in every layer, not the
    same size.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
    """

    takes_list = True

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Sequence[Tensor], t_feature: Sequence[Tensor]) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Sequence[Tensor]): The student's maps (N, C_i, H_i, W_i), two or more, from first to last.
            t_feature (Sequence[Tensor]): The teacher's maps (N, C_i, H'_i, W'_i).

        Raises:
            ValueError: These are no such lists, or the channels of a layer differ.
        """
        if isinstance(s_feature, Tensor) or isinstance(t_feature, Tensor):
            raise ValueError('FSPLoss: compares layers in sequence: give a list of two or more taps on either side')
        if len(s_feature) != len(t_feature) or len(s_feature) < 2:
            raise ValueError(
                'FSPLoss: two or more layers, as many of the student as of the teacher, expected, '
                f'got {len(s_feature)} and {len(t_feature)}'
            )
        for i, (s, t) in enumerate(zip(s_feature, t_feature, strict=True)):
            if s.dim() != 4 or t.dim() != 4 or s.shape[:2] != t.shape[:2]:
                raise ValueError(
                    'FSPLoss: FSP matrices need maps (N, C, H, W) of as many channels in student and teacher; '
                    f'in layer {i} the student has {tuple(s.shape)}, the teacher {tuple(t.shape)}'
                )
        pairs = zip(_matrices(s_feature), _matrices([t.detach() for t in t_feature]), strict=True)
        return self.loss_weight * sum(F.mse_loss(s, t) for s, t in pairs)


def _matrices(features: Sequence[Tensor]) -> list[Tensor]:
    return [_matrix(first, second) for first, second in zip(features[:-1], features[1:], strict=True)]


def _matrix(first: Tensor, second: Tensor) -> Tensor:
    size = [min(pair) for pair in zip(first.shape[2:], second.shape[2:], strict=True)]
    first, second = (x if list(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size) for x in (first, second))
    return first.flatten(2) @ second.flatten(2).mT / (size[0] * size[1])  # (N, C1, C2)
