"""PKD: features compared by their Pearson correlation, channel by channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['PKDLoss']


@MODELS.register_module()
class PKDLoss(nn.Module):
    """Half the mean squared difference of two standardised maps (PKD, Cao et al., NeurIPS 2022).

    Every channel is brought to mean 0 and standard deviation 1 over all images and places. With n values per channel
    this is (1 − 1/n) · (1 − r), r the channels' mean Pearson correlation, but for the 1e-6 added to the deviation.

    Args:
        loss_weight (float): What the loss is multiplied with. Defaults to 1.0.
        resize_stu (bool): Where the sizes differ, resize the student's map (bilinearly) to the teacher's; False
            resizes the teacher's. Defaults to True.
    """

    def __init__(self, loss_weight: float = 1.0, resize_stu: bool = True) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.resize_stu = resize_stu

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S (Tensor): The student's feature (N, C, H, W).
            preds_T (Tensor): The teacher's (N, C, H', W').

        Raises:
            ValueError: Images or channels differ, or a channel has a single value.
        """
        s, t = preds_S, preds_T.detach()
        if s.dim() != 4 or t.dim() != 4 or s.shape[:2] != t.shape[:2]:
            raise ValueError(
                'PKDLoss: (N, C, H, W) and (N, C, H′, W′) expected, the student has '
                f'{tuple(s.shape)}, the teacher {tuple(t.shape)}'
            )
        if s.shape != t.shape and self.resize_stu:
            s = F.interpolate(s, t.shape[2:], mode='bilinear')
        elif s.shape != t.shape:
            t = F.interpolate(t, s.shape[2:], mode='bilinear')
        if s[:, 0].numel() < 2:
            raise ValueError(f'PKDLoss: one value per channel has no correlation, got {tuple(s.shape)}')
        return self.loss_weight * F.mse_loss(_standardised(s), _standardised(t)) / 2


def _standardised(x: Tensor) -> Tensor:
    std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1), the std with n − 1
    return (x - mean) / (std + 1e-6)
