"""Distil a network's deepest layers into its own shallow ones."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmrecast.algorithms.single_teacher_distill import SingleTeacherDistill
from mmrecast.links import LinkSpec, Reader, Tap
from mmrecast.registry import MODELS


@MODELS.register_module()
class SelfDistill(SingleTeacherDistill):
    """Train ``student`` on ``task_loss`` and on links whose teacher taps read the student's own pass, detached.

    Args:
        student, links, connectors, task_loss, data_preprocessor: See :class:`SingleTeacherDistill`; ``teacher`` taps
            are places in the student.
        taps (dict, optional): ``dict(student={alias: tap})``; teacher taps use the same names.

    Raises:
        ValueError, KeyError: See :class:`SingleTeacherDistill`.
    """

    def __init__(
        self,
        student: dict | str | nn.Module,
        links: Sequence[Mapping] = (),
        taps: Mapping[str, Mapping] | None = None,
        connectors: Mapping[str, Mapping] | None = None,
        task_loss: dict | nn.Module | None = dict(type='CrossEntropyLoss'),
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(
            student, links, taps=taps, connectors=connectors, task_loss=task_loss, data_preprocessor=data_preprocessor
        )

    def _source_of_targets(self) -> nn.Module:
        return self.student

    @staticmethod
    def _checked_taps(taps: Mapping[str, Mapping] | None) -> dict[str, Mapping]:
        taps = SingleTeacherDistill._checked_taps(taps)
        return dict(taps, teacher=taps.get('student', {}))

    def _readers_of(self, specs: list[LinkSpec], networks: dict) -> dict[str, Reader]:
        taps = [tap for spec in specs for side in ('student', 'teacher') for tap in spec.taps(side)]
        reader = Reader('student', self.student, taps)
        reader.copied |= self._probed['student'].copied | self._probed['teacher'].copied
        return dict(student=reader)

    def _read(self, kind: str, inputs: Tensor, logits: bool) -> tuple[Tensor | None, dict, dict[Tap, Tensor]]:
        readers = self._readers.get(kind)
        if readers is None:
            return self.student(inputs), {}, {}
        s_logits, values = readers['student'].read(inputs, cut=not logits)
        return s_logits, values, {tap: value.detach() for tap, value in values.items()}
