"""Variational information distillation: how likely the teacher's activation is, given the student's."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.pairs import same_size
from mmrecast.registry import MODELS

__all__ = ['VIDLoss']

Shape = tuple[int, ...]


@MODELS.register_module()
class VIDLoss(nn.Module):
    """Mean of ½ ((μ − t)² / σ² + log σ²), summed over the taps.

    Ahn et al., "Variational Information Distillation for Knowledge Transfer" (CVPR 2019), without the constant ½ log
    2π. μ is what a regressor (``VIDConnector``) makes of the student's map; σ² = softplus(α) + eps has one learned α
    per channel of the teacher. Start and numbers are RepDistiller's, weight 1; the α train with the student.
    (mdistiller leaves them at their start.) Maps of two sizes are averaged down to the smaller.

    Args:
        channels (int | Sequence[int]): Channels of the teacher's map; of every tap's, for a list of taps. A link fills
            it in.
        init_pred_var (float): σ² at the start. Defaults to 5.0.
        eps (float): What σ² cannot fall below. Defaults to 1e-5.
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``init_pred_var`` is not above ``eps``, or ``channels`` holds no positive whole number.
    """

    takes_list = True

    def __init__(
        self, channels: int | Sequence[int], init_pred_var: float = 5.0, eps: float = 1e-5, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        widths = [channels] if isinstance(channels, int) else list(channels)
        if not widths or any(not isinstance(c, int) or c < 1 for c in widths):
            raise ValueError(f'VIDLoss: channels must be one positive whole number per tap, got {channels!r}')
        if not init_pred_var > eps > 0:
            raise ValueError(f'VIDLoss: init_pred_var > eps > 0 expected, got {init_pred_var} and {eps}')
        start = math.log(math.expm1(init_pred_var - eps))  # softplus(start) = init_pred_var − eps
        self.log_scales = nn.ParameterList(nn.Parameter(torch.full((c,), start)) for c in widths)
        self.eps = eps
        self.loss_weight = loss_weight

    @classmethod
    def infer(cls, own: Shape | list[Shape], other: Shape | list[Shape]) -> dict:
        """Return ``channels`` from the shapes, without the batch, of what the two sides give."""
        return dict(channels=[shape[0] for shape in other] if isinstance(other, list) else other[0])

    def forward(self, s_feature: Tensor | list[Tensor], t_feature: Tensor | list[Tensor]) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor | list[Tensor]): The regressors' outputs (N, C, H, W), one for every tap.
            t_feature (Tensor | list[Tensor]): The teacher's maps (N, C, H', W').

        Raises:
            ValueError: Their number or their channels are not those of ``channels``, or they are no maps.
        """
        students, teachers = ([x] if isinstance(x, Tensor) else x for x in (s_feature, t_feature))
        if not len(students) == len(teachers) == len(self.log_scales):
            raise ValueError(
                f'VIDLoss: {len(self.log_scales)} pair(s) of maps expected, got {len(students)} of the student and '
                f'{len(teachers)} of the teacher'
            )
        triples = zip(students, teachers, self.log_scales, strict=True)
        return self.loss_weight * sum(self._one(*triple) for triple in triples)

    def _one(self, mean: Tensor, target: Tensor, log_scale: Tensor) -> Tensor:
        mean, target = same_size(self, mean, target)
        if not mean.shape[1] == target.shape[1] == len(log_scale):
            raise ValueError(
                f'VIDLoss: {len(log_scale)} channels expected, the student has {tuple(mean.shape)}, '
                f'the teacher {tuple(target.shape)}'
            )
        variance = (F.softplus(log_scale) + self.eps).view(1, -1, 1, 1)
        return 0.5 * ((mean - target).pow(2) / variance + variance.log()).mean()
