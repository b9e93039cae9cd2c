"""Distil one teacher into a given student through links; with no link, train the student on the labels alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrecast.algorithms.base import Distiller, as_text, build_loss
from mmrecast.links.link import Link
from mmrecast.models import build_network, network_config, untrained
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import Origin


@MODELS.register_module()
class SingleTeacherDistill(Distiller):
    """Train ``student`` on ``task_loss`` plus the loss of every link.

    Args:
        student (dict | str | nn.Module): The network to train (``RecastStudent`` builds the student of a recipe).
        links (list[dict]): Entries ``dict(student=tap, teacher=tap, loss=dict(type=…))``; 'logits' names the networks'
            outputs. Defaults to none: ordinary training.
        teacher, teacher_ckpt, data_preprocessor: See :class:`Distiller`; needed only for links.
        task_loss (dict, optional): Loss against the labels. Defaults to ``CrossEntropyLoss``; None leaves it out.

    Raises:
        ValueError: There is nothing to train on, or a link names a teacher where there is none.
        KeyError: A tap does not exist or a type is not registered.
    """

    stage_kinds = ('train',)

    def __init__(
        self,
        student: dict | str | nn.Module,
        links: Sequence[dict] = (),
        teacher: dict | str | nn.Module | None = None,
        teacher_ckpt: str | None = None,
        task_loss: dict | nn.Module | None = dict(type='CrossEntropyLoss'),
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(teacher, teacher_ckpt, data_preprocessor)
        self.student = build_network(student)
        constructor = None if isinstance(student, nn.Module) else untrained(network_config(student))
        self.origin = getattr(self.student, 'origin', None) or Origin(constructor)
        self.task_loss = None if task_loss is None else build_loss(task_loss)
        if links and self.teacher is None:
            raise ValueError(f'{len(links)} link(s) but no teacher: give teacher=… or leave links out')
        if not links and task_loss is None:
            raise ValueError('neither links nor a task_loss: there is nothing to train on')
        self._loss_cfgs = as_text([task_loss, *links])
        self.links = nn.ModuleList(Link(self.student, self.teacher, **link) for link in links)

    def expand(self, entries: Sequence[Stage]) -> list[Stage]:
        """See the base class; every stage trains."""
        for entry in super().expand(entries):
            if not (entry.epochs or entry.iters):
                raise ValueError(f'{entry.name}: its length must be at least 1, got 0')
        return list(entries)

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        """Return ``loss_task`` and one ``loss_link<i>`` per link."""
        losses = {}
        if self.links:
            with torch.no_grad(), Link.reading(self.links, 'teacher'):
                t_logits = self.teacher(inputs)
        with Link.reading(self.links, 'student'):
            s_logits = self.student(inputs)
        if self.task_loss is not None:
            losses['loss_task'] = self.task_loss(s_logits, data_samples['gt_label'])
        for i, link in enumerate(self.links):
            losses[f'loss_link{i}'] = link(s_logits, t_logits)
        return losses

    def fingerprint(self) -> dict:
        """See the base class."""
        plan = self.origin.plan
        return super().fingerprint() | dict(recipe=plan and plan.to_dict(), losses=self._loss_cfgs)
