"""A link: student tap, teacher tap, connectors and loss in one config entry."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mmrecast.registry import MODELS
from mmrecast.utils.modules import get_module, hooked

LOGITS = 'logits'


class Link(nn.Module):
    """Compare what two taps read.

    Args:
        student_network (nn.Module): Where ``student`` stands.
        teacher_network (nn.Module): Where ``teacher`` stands.
        student, teacher (str): Paths of the modules whose output is compared; 'logits' for the networks' own output.
        loss (dict): Config of a loss ``(s_feature, t_feature) -> scalar``.
        connector, teacher_connector (dict, optional): Trainable modules between a tap and the loss.

    Raises:
        KeyError: A path does not exist, or a type is not registered.
    """

    def __init__(
        self,
        student_network: nn.Module,
        teacher_network: nn.Module,
        student: str,
        teacher: str,
        loss: dict,
        connector: dict | None = None,
        teacher_connector: dict | None = None,
    ) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self.connector = nn.Identity() if connector is None else MODELS.build(connector)
        self.teacher_connector = nn.Identity() if teacher_connector is None else MODELS.build(teacher_connector)
        self.paths = dict(student=student, teacher=teacher)
        networks = dict(student=student_network, teacher=teacher_network)
        # Plain dicts: the networks belong to the algorithm, not to the link.
        self._taps = {s: None if p == LOGITS else get_module(networks[s], p) for s, p in self.paths.items()}
        self._read: dict[str, list[Tensor]] = dict(student=[], teacher=[])

    @staticmethod
    @contextmanager
    def reading(links: Iterable['Link'], side: str) -> Iterator[None]:
        """Let the taps of one ``side`` ('student' or 'teacher') read the forward pass inside the context."""
        handles = []
        for link in links:
            link._read[side].clear()
            if link._taps[side] is not None:
                handles.append(link._taps[side].register_forward_hook(link._note(side)))
        with hooked(handles):
            yield

    def _note(self, side: str):
        def note(module, args, out):
            # A copy: what follows may be a ReLU in place.
            self._read[side].append(out.clone() if isinstance(out, Tensor) else out)

        return note

    def forward(self, s_logits: Tensor, t_logits: Tensor) -> Tensor:
        """Return the loss of what was read; ``s_logits`` and ``t_logits`` serve the taps named 'logits'."""
        s_feature = self.connector(self._take('student', s_logits))
        t_feature = self.teacher_connector(self._take('teacher', t_logits))
        return self.loss(s_feature, t_feature)

    def _take(self, side: str, logits: Tensor) -> Tensor:
        if self._taps[side] is None:
            return logits
        read = list(self._read[side])
        self._read[side].clear()
        if len(read) != 1:
            raise ValueError(
                f'{side} tap {self.paths[side]!r} was read {len(read)} times in one forward pass, not once'
            )
        return read[0]
