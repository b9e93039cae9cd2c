"""What a generator learns from: a loss, and what it reads in the two networks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmrecast.links import Tap, parse_taps
from mmrecast.links.parts import build_loss
from mmrecast.utils.names import nearest

SIDES = ('student', 'teacher')


class GeneratorLink(nn.Module):
    """A loss of the generator and what it reads; other than in the student's links, its gradient passes the teacher.

    Args:
        index (int): Its place in the list.
        entry (dict): ``dict(student=tap, teacher=tap, loss=…, name=…)``; a loss of one tap alone leaves out the other.
        aliases (Mapping): Names of taps by side.
        networks (Mapping): The networks by side.

    Raises:
        ValueError: A key is unknown or missing, or what it holds is wrong.
        TypeError: An argument of the loss is unknown or missing.
        KeyError: A tap does not exist, or the loss is not registered.
    """

    def __init__(self, index: int, entry: Mapping, aliases: Mapping, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        keys = (*SIDES, 'loss', 'name')
        if not isinstance(entry, Mapping):
            raise ValueError(f'generator link {index} must be a dict(teacher=…, loss=dict(type=…)), got {entry!r}')
        for key in entry:
            if key not in keys:
                raise ValueError(f'generator link {index} has no key {key!r}{nearest(str(key), keys)}')
        self.name = entry.get('name') or f'link{index}'
        self.where = f'generator link {entry.get("name") or index}'
        if entry.get('loss') is None:
            raise ValueError(f"{self.where} needs a loss, e.g. loss=dict(type='OnehotLikeLoss')")
        self.taps: dict[str, Tap | list[Tap]] = {}
        for side in SIDES:
            if entry.get(side) is None:
                continue
            try:
                self.taps[side] = parse_taps(entry[side], aliases.get(side, {}), networks[side])
            except (KeyError, ValueError) as error:
                raise type(error)(f'{self.where}: {side} tap: {error.args[0]}') from error
        if not self.taps:
            raise ValueError(f'{self.where} needs a tap: student=…, teacher=…')
        self.loss = build_loss(entry['loss'], self.where)

    def read_from(self, side: str) -> list[Tap]:
        """Return its taps of 'student' or 'teacher'."""
        taps = self.taps.get(side, [])
        return taps if isinstance(taps, list) else [taps]

    def forward(self, values: Mapping[str, Mapping[Tap, Tensor]]) -> Tensor:
        """Return the loss of what was read, by side and tap; for lists of taps the sum, one after the other."""
        read = [
            [values[side][tap] for tap in taps] if isinstance(taps, list) else values[side][taps]
            for side, taps in self.taps.items()
        ]
        if isinstance(read[0], list) and not getattr(self.loss, 'takes_list', False):
            return sum(self.loss(*features) for features in zip(*read, strict=True))
        return self.loss(*read)

    def check(self, values: Mapping[str, Mapping[Tap, Tensor]]) -> None:
        """Compute the loss of what a dry run read and see whether its gradient reaches every tap.

        Raises:
            ValueError: The loss cannot take it, or keeps the gradient from a tap.
        """
        values = {side: {tap: x.detach().requires_grad_() for tap, x in values[side].items()} for side in values}
        what = f'{self.where}: {type(self.loss).__name__}'
        try:
            with torch.enable_grad():
                loss = self(values)
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(f'{what} cannot take what is read: {" ".join(str(error).split())}') from error
        taps = [(side, tap) for side in self.taps for tap in self.read_from(side)]
        grads = torch.autograd.grad(loss, [values[side][tap] for side, tap in taps], allow_unused=True)
        for (side, tap), grad in zip(taps, grads, strict=True):
            if grad is None:
                raise ValueError(
                    f'{what} keeps the gradient from the {side} tap {tap}, through which the generator would learn: '
                    'KLDivergence has teacher_detach=False for that, DiscrepancyLoss is an L1Loss that lets it pass'
                )
