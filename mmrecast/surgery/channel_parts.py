"""Width groups while a network is being followed: parts of layouts, and the groups that they tie together."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mmrecast.surgery.chain import Shape
from mmrecast.surgery.channel_graph import ChannelGraph, Layer, Segment, WidthGroup


@dataclass(eq=False)
class GrowingGroup:
    """A width group that is not complete yet: a node of a union-find forest, whose root counts.

    Args:
        name (str): What it is called if no layer gives its channels.
        parent (GrowingGroup, optional): The group it has become part of.
        fixed (str): Why it cannot narrow; '' if it can.
        widths, multiples, layers: See :class:`WidthGroup`.
    """

    name: str
    parent: 'GrowingGroup | None' = None
    fixed: str = ''
    widths: list[int] = field(default_factory=list)
    multiples: list[int] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)

    @property
    def root(self) -> 'GrowingGroup':
        """GrowingGroup: The group that this one is part of by now."""
        return self if self.parent is None else self.parent.root


@dataclass(frozen=True)
class Part:
    """What becomes a :class:`Segment`."""

    var: GrowingGroup
    width: int
    repeat: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """tuple[int, int]: What must agree for two parts to be added."""
        return self.width, self.repeat


Layout = tuple[Part, ...]  # the channels of a tensor, side by side


def numbers_in(layout: Layout) -> int:
    """Return how many numbers per place a layout has."""
    return sum(part.width * part.repeat for part in layout)


def new_part(name: str, width: int, fixed: str = '') -> Part:
    """Return channels of a group of their own."""
    return Part(GrowingGroup(name, fixed=fixed, widths=[width], multiples=[width]), width)


def hold(parts: Iterable[Part], reason: str) -> None:
    """Keep the groups of ``parts`` at their width."""
    for part in parts:
        root = part.var.root
        root.fixed = root.fixed or reason


def tie(one: Layout, other: Layout) -> None:
    """Make channels that are added or multiplied narrow together; held where they are put together otherwise."""
    if [part.shape for part in one] == [part.shape for part in other]:
        for mine, theirs in zip(one, other, strict=True):
            union(mine.var, theirs.var)
    else:
        hold((*one, *other), 'it is added to (or multiplied by) channels that are put together otherwise')


def union(one: GrowingGroup, other: GrowingGroup) -> None:
    """Make two groups one."""
    one, other = one.root, other.root
    if one is other:
        return
    other.parent = one
    one.fixed = one.fixed or other.fixed
    one.widths += other.widths
    one.multiples += other.multiples
    one.layers += [path for path in other.layers if path not in one.layers]


class Found:
    """The layers that were met, with what they read and give."""

    def __init__(self) -> None:
        self.layers: dict[str, tuple[Layer, Layout, Layout]] = {}

    def note(self, layer: Layer, inputs: Layout, outputs: Layout) -> None:
        """Keep a call of a layer; what a shared one reads in its calls narrows together, and so does what it gives."""
        if layer.path in self.layers:
            known, first, given = self.layers[layer.path]
            tie(first, inputs)
            tie(given, outputs)
            layer = replace(known, positions=known.positions + layer.positions)
            inputs, outputs = first, given
        self.layers[layer.path] = layer, inputs, outputs

    def graph(self, input_shape: Shape) -> ChannelGraph:
        """Return layers and groups; a group is called by the first of its layers."""
        order = {path: i for i, path in enumerate(self.layers)}
        roots = {id(part.var.root): part.var.root for _, *sides in self.layers.values() for s in sides for part in s}
        names, groups = {}, {}
        for key, root in roots.items():
            layers = tuple(sorted(root.layers, key=order.__getitem__))
            names[key] = layers[0] if layers else root.name
            if layers:
                widths, multiples = (tuple(sorted(set(numbers))) for numbers in (root.widths, root.multiples))
                groups[layers[0]] = WidthGroup(layers[0], layers, widths, multiples, root.fixed)

        def named(layout: Layout) -> tuple[Segment, ...]:
            return tuple(Segment(names[id(part.var.root)], part.width, part.repeat) for part in layout)

        layers = {
            path: replace(layer, inputs=named(inputs), outputs=named(outputs))
            for path, (layer, inputs, outputs) in self.layers.items()
        }
        return ChannelGraph(layers, {path: groups[path] for path in order if path in groups}, input_shape)
