"""The masking and generating of masked generative distillation."""

import torch
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['MGDConnector']


@MODELS.register_module()
class MGDConnector(nn.Module):
    """Mask a random share of the student's feature and generate the teacher's from the rest (MGD, Yang et al., 2022).

    A 1x1 convolution where the channels differ, a mask anew at every pass (in eval mode, too), then 3x3, ReLU, 3x3.

    Args:
        student_channels (int): Channels of the student's feature.
        teacher_channels (int): Channels of the teacher's.
        lambda_mgd (float): Share of places (or channels) set to 0, from 0 to 1. Defaults to 0.65.
        mask_on_channel (bool): Mask whole channels instead of places, as the authors do for classification.
            Defaults to False.

    Raises:
        ValueError: ``lambda_mgd`` is outside [0, 1].
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, lambda_mgd: float = 0.65, mask_on_channel: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= lambda_mgd <= 1:
            raise ValueError(f'MGDConnector: lambda_mgd must lie in [0, 1], got {lambda_mgd}')
        self.student_channels = student_channels
        self.lambda_mgd = lambda_mgd
        self.mask_on_channel = mask_on_channel
        same = student_channels == teacher_channels
        self.align = None if same else nn.Conv2d(student_channels, teacher_channels, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Map (N, student_channels, H, W) to (N, teacher_channels, H, W).

        Raises:
            ValueError: The feature has other dimensions or channels.
        """
        if feature.dim() != 4 or feature.shape[1] != self.student_channels:
            raise ValueError(f'MGDConnector: (N, {self.student_channels}, H, W) expected, got {tuple(feature.shape)}')
        if self.align is not None:
            feature = self.align(feature)
        n, c, h, w = feature.shape
        shape = (n, c, 1, 1) if self.mask_on_channel else (n, 1, h, w)
        kept = torch.rand(shape, device=feature.device) <= 1 - self.lambda_mgd
        return self.generation(feature * kept)
