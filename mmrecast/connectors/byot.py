"""A shallow exit of BYOT: attention, a stack of separable convolutions and a classifier."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['BYOTConnector']


class SeparableConv(nn.Module):
    """DARTS' separable convolution (Liu et al., 2019): twice ReLU, depthwise and 1x1 convolution, BatchNorm.

    Args:
        in_channels, out_channels (int): Channels before and behind it.
        kernel_size (int): 3 or 5.
        stride (int): Stride of the first of the two, 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = self._half(in_channels, in_channels, kernel_size, stride)
        self.conv2 = self._half(in_channels, out_channels, kernel_size, 1)

    @staticmethod
    def _half(channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(
                channels, out_channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False
            ),  # fmt: skip
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        return self.conv2(self.conv1(x))


@MODELS.register_module()
class BYOTConnector(nn.Module):
    """Turn a shallow map into ``[feature, logits]`` of an exit (Be Your Own Teacher, ICCV 2019).

    Name, arguments and numbers are MMRazor's; its ``stride`` must be 2 there, since its attention always doubles what
    the stride has halved. A link gives it one tap, compares with two (``teacher=['penultimate', 'logits']``) and has a
    :class:`BYOTLoss`; what is left out of its arguments is inferred from the shapes, with ``stride=2``.

    Args:
        in_channel (int): Channels of the map, divided by ``expansion``.
        out_channel (int): Channels of the deepest feature, divided by ``expansion``: ``in_channel`` times a power of 2.
        num_classes (int): Number of classes.
        expansion (int): Inferred with the channels as 1, else defaults to 4.
        pool_size (int): Size of the map behind the stack, which is averaged to one pixel. Defaults to 4.
        kernel_size (int): 3 or 5. Defaults to 3.
        stride (int): By how much each convolution of the stack shrinks the map, 1 or 2. Defaults to 1.

    Raises:
        ValueError: An argument is none of the above.
    """

    takes_list = True

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        num_classes: int,
        expansion: int = 4,
        pool_size: int = 4,
        kernel_size: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        steps = _doublings(in_channel, out_channel)
        if steps is None:
            raise ValueError(
                'BYOTConnector: out_channel must be in_channel times a power of 2, '
                f'got in_channel={in_channel} and out_channel={out_channel}'
            )
        if kernel_size not in (3, 5) or stride not in (1, 2):
            raise ValueError(
                f'BYOTConnector: kernel_size must be 3 or 5 and stride 1 or 2, got {kernel_size} and {stride}'
            )
        channels = in_channel * expansion
        self.channels = channels
        self.attention = nn.Sequential(
            SeparableConv(channels, channels, kernel_size, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Upsample(scale_factor=stride, mode='bilinear'),
            nn.Sigmoid(),
        )
        self.scala = nn.Sequential(
            *(SeparableConv(channels << i, channels << (i + 1), kernel_size, stride) for i in range(steps)),
            nn.AvgPool2d(pool_size),
        )
        self.fc = nn.Linear(out_channel * expansion, num_classes)

    @classmethod
    def infer(cls, own: object, other: object) -> dict:
        """Return the arguments that shapes without batch tell: the tap's, and those it will be compared with."""
        own, other = (shapes if isinstance(shapes, list) else [shapes] for shapes in (own, other))
        if len(own[0]) != 3 or other[0] is None:
            return {}
        channels, height, _ = own[0]
        known = dict(in_channel=channels, out_channel=other[0][0], expansion=1, stride=2)
        steps = _doublings(channels, other[0][0])
        if steps is not None:
            for _ in range(steps):
                height = -(-height // 2)
            known['pool_size'] = height
        return known

    def forward(self, feature: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Return the exit's feature (N, out_channel * expansion) and logits (N, num_classes).

        Args:
            feature (Tensor | list[Tensor]): A map (N, in_channel * expansion, H, W), or a list of this one map.

        Raises:
            ValueError: There is more than one, its channels or size do not fit, or the stack leaves more than a pixel.
        """
        if isinstance(feature, list | tuple):
            if len(feature) != 1:
                raise ValueError(f'BYOTConnector: an exit stands behind one tap, got {len(feature)}')
            feature = feature[0]
        if feature.dim() != 4 or feature.shape[1] != self.channels:
            raise ValueError(f'BYOTConnector: a map (N, {self.channels}, H, W) expected, got {tuple(feature.shape)}')
        attention = self.attention(feature)
        if attention.shape != feature.shape:
            raise ValueError(
                f'BYOTConnector: a stride of 2 needs a map of even height and width, got {tuple(feature.shape)}'
            )
        pooled = self.scala(attention * feature)
        if pooled.shape[2:] != (1, 1):
            raise ValueError(
                f'BYOTConnector: {tuple(pooled.shape[2:])} pixels are left of a map {tuple(feature.shape)}, not one: '
                'choose another pool_size or stride'
            )
        flat = pooled.flatten(1)
        return [flat, self.fc(flat)]


def _doublings(in_channel: int, out_channel: int) -> int | None:
    """Return how often the channels double, None where they do not get from one to the other so."""
    steps = 0
    while 0 < in_channel < out_channel:
        in_channel, steps = in_channel * 2, steps + 1
    return steps if 0 < in_channel == out_channel else None
