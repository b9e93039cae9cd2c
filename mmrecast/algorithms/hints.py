"""Hints: outputs of some blocks, compared beside the logits while a recast student is fine-tuned."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrecast.links import Reader, Tap
from mmrecast.links.parts import build_loss
from mmrecast.surgery.chain import match
from mmrecast.surgery.plan import Plan

LOSS = dict(type='RelativeMSELoss', loss_weight=5.0)
_KEYS = ('blocks', 'loss')


class Hints(nn.Module):
    """The hints of a plan.

    Args:
        options (Mapping): ``dict(blocks=pattern(s), loss=dict(type=…))``; the loss defaults to ``RelativeMSELoss`` with
            weight 5.
        plan (Plan): The plan; blocks are named by their paths.

    Raises:
        ValueError: ``options`` is no such dict, a pattern matches no block, or a block's width is not the teacher's.
        KeyError: The loss is not registered.
    """

    def __init__(self, options: Mapping, plan: Plan) -> None:
        super().__init__()
        if not isinstance(options, Mapping) or 'blocks' not in options or not set(options) <= set(_KEYS):
            raise ValueError(f'hints is dict(blocks=pattern(s), loss=dict(type=…)), got {options!r}')
        patterns = options['blocks']
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) for p in patterns):
            raise ValueError(f'the blocks of hints are a pattern or a list of patterns, got {patterns!r}')
        self.loss = build_loss(options.get('loss', LOSS), 'hints.loss')
        entries = {entry.path: entry for entry in plan.entries}
        found = [path for pattern in patterns for path in match(pattern, list(entries))]
        for path in found:
            entry = entries[path]
            if entry.out_channels != entry.out_shape[0]:
                raise ValueError(
                    f"a hint at block {path!r} compares {entry.out_channels} channels with the teacher's "
                    f'{entry.out_shape[0]}: choose blocks whose width the plan keeps'
                )
        self.taps = {path: Tap(entries[path].output) for path in dict.fromkeys(found)}
        self._readers: list[Reader] = []

    def begin(self, student: nn.Module, teacher: nn.Module, images: Tensor) -> None:
        """Get ready to read two networks; ``images`` (N, C, H, W) tell where one works in place on what is read."""
        self._readers = [
            Reader(side, net, self.taps.values()) for side, net in dict(student=student, teacher=teacher).items()
        ]
        for reader in self._readers:
            reader.probe(images)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the student's logits (N, classes), the teacher's, and the loss of every hint by its name."""
        of_student, of_teacher = self._readers
        with torch.no_grad():
            t_logits, t_values = of_teacher.read(inputs)
        s_logits, s_values = of_student.read(inputs)
        losses = {f'loss_hint{i}': self.loss(s_values[tap], t_values[tap]) for i, tap in enumerate(self.taps.values())}
        return s_logits, t_logits, losses
