"""Neuron selectivity transfer: where in an image the channels of a layer fire."""

from torch import Tensor, nn

from mmrecast.losses.pairs import same_size, unit
from mmrecast.registry import MODELS

__all__ = ['NSTLoss']


@MODELS.register_module()
class NSTLoss(nn.Module):
    """Squared maximum mean discrepancy between the channels of student and teacher.

    Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer" (2017). A channel's map is
    one sample, divided by its L2 norm; the kernel is the paper's polynomial one, (xᵀy + c)^d with c = 0 and d = 2; each
    mean runs over the batch and all pairs of channels. The numbers are RepDistiller's; maps of two sizes are averaged
    down to the smaller.

    Args:
        loss_weight (float): What the discrepancy is multiplied with. Defaults to 1.0. (RepDistiller: 50.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's map (N, C_s, H, W).
            t_feature (Tensor): The teacher's (N, C_t, H', W').

        Raises:
            ValueError: They are no maps of the same N images.
        """
        student, teacher = same_size(self, s_feature, t_feature)
        student, teacher = unit(student.flatten(2), 2), unit(teacher.flatten(2), 2)  # (N, C, HW)
        within = _kernel(teacher, teacher) + _kernel(student, student)
        return self.loss_weight * (within - 2 * _kernel(student, teacher))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.transpose(1, 2)).pow(2).mean()  # (N, C_x, C_y) before the mean
