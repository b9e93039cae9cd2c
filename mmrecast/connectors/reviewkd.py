"""Attention-based fusion of a student's maps, from the deepest to the first: the connector of knowledge review."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['ABFConnector']

Shape = Sequence[int]


@MODELS.register_module()
class ABFConnector(nn.Module):
    """Fuse each of the student's maps with what the deeper ones gave, and shape it like the teacher's.

    Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021), ABF. From the deepest tap on: r_n =
    conv1(x_n), r_k = a · conv1(x_k) + b · resized(r_{k+1}), where a and b are maps in (0, 1), computed from the two by
    a 1x1 convolution; then r_k takes the teacher's size, and conv2(r_k) is the result of tap k. conv1 is 1x1, conv2
    3x3, both with BN and without bias; sizes change to the nearest pixel. Layers, starts and sizes are the authors' and
    mdistiller's.

    Args:
        in_shapes (Sequence[tuple[int, ...]]): Shapes (C, H, W) or (C,) of the student's maps, from the first layer to
            the last. In a link they are inferred.
        out_shapes (Sequence[tuple[int, ...]]): Those of the teacher's. In a link they are inferred.
        mid_channels (int | None): Channels of r. Defaults to None: those of the deepest map, at most 512.

    Raises:
        ValueError: There are not as many shapes of the teacher as of the student, or one is not (C, H, W) or (C,).
    """

    takes_list = True

    def __init__(
        self, in_shapes: Sequence[Shape], out_shapes: Sequence[Shape], mid_channels: int | None = None
    ) -> None:
        super().__init__()
        if len(in_shapes) != len(out_shapes) or not in_shapes:
            raise ValueError(f'ABFConnector: {len(in_shapes)} maps of the student, {len(out_shapes)} of the teacher')
        for shape in (*in_shapes, *out_shapes):
            if len(shape) not in (1, 3):
                raise ValueError(f'ABFConnector: shapes (C, H, W) or (C,) expected, got {tuple(shape)}')
        mid = min(512, in_shapes[-1][0]) if mid_channels is None else mid_channels
        self.in_channels = [shape[0] for shape in in_shapes]
        self.out_sizes = [tuple(shape[1:]) or (1, 1) for shape in out_shapes]
        self.conv1 = nn.ModuleList(_conv_bn(shape[0], mid, 1) for shape in in_shapes)
        self.conv2 = nn.ModuleList(_conv_bn(mid, shape[0], 3) for shape in out_shapes)
        self.attention = nn.ModuleList(nn.Conv2d(2 * mid, 2, 1) for _ in in_shapes[:-1])

    @classmethod
    def infer(cls, own: list[Shape], other: list[Shape]) -> dict:
        """Return ``in_shapes`` and ``out_shapes``."""
        return dict(in_shapes=own, out_shapes=other)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the student's maps (N, C, H, W) or (N, C) to maps of the teacher's channels and sizes, in their order.

        Raises:
            ValueError: Their number or channels are others.
        """
        maps = [x[..., None, None] if x.dim() == 2 else x for x in features]
        if [x.shape[1] if x.dim() == 4 else None for x in maps] != self.in_channels:
            raise ValueError(
                f'ABFConnector: maps of {self.in_channels} channels expected, got {[tuple(x.shape) for x in features]}'
            )
        results, deeper = [], None
        for k in reversed(range(len(maps))):
            deeper = self._fuse(k, self.conv1[k](maps[k]), deeper)
            resized = deeper if deeper.shape[2:] == self.out_sizes[k] else F.interpolate(deeper, self.out_sizes[k])
            results.insert(0, self.conv2[k](resized))
            deeper = resized
        return results

    def _fuse(self, k: int, x: Tensor, deeper: Tensor | None) -> Tensor:
        if deeper is None:
            return x
        deeper = F.interpolate(deeper, x.shape[2:])
        own, other = self.attention[k](torch.cat([x, deeper], dim=1)).sigmoid().split(1, dim=1)  # (N, 1, H, W)
        return own * x + other * deeper


def _conv_bn(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
