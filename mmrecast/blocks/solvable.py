"""How a block says what least squares can solve for in it."""

from dataclasses import dataclass

from torch import nn

__all__ = ['Solvable']

Layer = tuple[nn.Conv2d, nn.BatchNorm2d | None]


@dataclass(frozen=True)
class Solvable:
    """A block's layers by their part in its output, for a start by least squares::

        out = [ReLU](norm(conv(h)) + norm'(conv'(h')) + … + skip(x))

    What the convolutions read (h, h') is seen in a forward pass, so that it need not be told.

    Args:
        terms (tuple): The summed (convolution, norm) pairs, which are solved for jointly; None for a norm where there
            is none. The convolutions have no groups. Empty where ``skip`` is all there is, and nothing to solve for.
        hidden (tuple): The (convolution, norm) pairs in front of the first term, in order, each followed by a ReLU;
            they are chosen from data. Defaults to none.
        skip (nn.Module, optional): What the block's input goes through where it is added without weights. Defaults to
            None, nothing is added.
        relu (bool): Whether a ReLU comes last. Defaults to True.
    """

    terms: tuple[Layer, ...]
    hidden: tuple[Layer, ...] = ()
    skip: nn.Module | None = None
    relu: bool = True
