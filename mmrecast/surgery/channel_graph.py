"""What is known of a network's channels: layers, and the width groups that their channels belong to."""

from collections.abc import Iterable
from dataclasses import dataclass

from mmrecast.surgery.chain import Shape

OUTPUT = "it is the network's output"  # why a group is held that no network can do without


@dataclass(frozen=True)
class Segment:
    """Channels that stand side by side.

    Args:
        group (str): Name of their :class:`WidthGroup`.
        width (int): How many there are, before narrowing.
        repeat (int): How many numbers in a row belong to each: the places of a map that was flattened. Defaults to 1.
    """

    group: str
    width: int
    repeat: int = 1


@dataclass(frozen=True)
class Layer:
    """A layer whose weights depend on the channels around it.

    Args:
        path (str): Where it stands.
        kind (str): 'conv', 'linear' or 'norm'.
        inputs (tuple[Segment]): What it reads.
        outputs (tuple[Segment]): What it gives.
        groups (int): Of a convolution. Defaults to 1.
        kernel (int): Weights per pair of channels. Defaults to 1.
        positions (int): At how many places it works per image, in all its calls. Defaults to 1.
    """

    path: str
    kind: str
    inputs: tuple[Segment, ...]
    outputs: tuple[Segment, ...]
    groups: int = 1
    kernel: int = 1
    positions: int = 1

    @property
    def depthwise(self) -> bool:
        """bool: Whether every filter reads one channel."""
        return self.groups > 1 and self.groups == size(self.inputs)


@dataclass(frozen=True)
class WidthGroup:
    """Layers whose outputs narrow by one divisor.

    Args:
        name (str): Path of the first of them.
        layers (tuple[str]): Paths of the convolutions and fully connected layers that give these channels.
        widths (tuple[int]): The numbers of channels they give.
        multiples (tuple[int]): Numbers that the divisor must divide: the widths, and groups of grouped convolutions.
        fixed (str): Why it cannot narrow; '' if it can.
    """

    name: str
    layers: tuple[str, ...]
    widths: tuple[int, ...]
    multiples: tuple[int, ...]
    fixed: str = ''


@dataclass(frozen=True)
class ChannelGraph:
    """Layers and width groups of a network, in running order.

    Args:
        layers (dict[str, Layer]): By path.
        groups (dict[str, WidthGroup]): By name.
        input_shape (tuple[int]): (C, H, W) of the image.
    """

    layers: dict[str, Layer]
    groups: dict[str, WidthGroup]
    input_shape: Shape


def size(segments: Iterable[Segment]) -> int:
    """Return how many numbers per place the segments hold."""
    return sum(segment.width * segment.repeat for segment in segments)
