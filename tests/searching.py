"""An algorithm with values that schedules drive and widths to choose, small enough to compute its steps by hand."""

import torch
from tiny import preprocessor
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmrecast.algorithms import Distiller
from mmrecast.registry import MODELS
from mmrecast.surgery.student_file import Origin, build_source

DIVISORS = [1, 2, 4]
GROUPS = dict(first=8, second=16)


@MODELS.register_module()
class TinySearch(Distiller):
    """Cross-entropy of the student's logits over ``tau``, and ``gamma`` times the expected width of two groups.

    The probabilities have noise over ``tau`` in them, drawn at every step. ``used`` notes (tau, gamma) of every step.
    """

    stage_kinds = ('search', 'train')

    def __init__(self, student: dict, data_preprocessor: dict, tau: float = 15.0, gamma: float = 1e-10) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.student, constructor = build_source(student)
        self.origin = Origin(constructor)
        self.logits = nn.Parameter(torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.1, 0.0]]))
        self.scheduled = dict(tau=tau, gamma=gamma)
        self.used: list[tuple[float, float]] = []
        self.begun: list[float] = []

    def begin_stage(self, stage, batches=(), initialise=True) -> None:
        super().begin_stage(stage, batches, initialise)
        self.kind = stage.kind
        if initialise:
            self.begun.append(self.scheduled['tau'])

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        tau, gamma = self.scheduled['tau'], self.scheduled['gamma']
        self.used.append((tau, gamma))
        task = cross_entropy(self.student(inputs) / tau, data_samples['gt_label'])
        shares = (self.logits + torch.randn_like(self.logits) / tau).softmax(1)
        widths = torch.tensor([[width / d for d in DIVISORS] for width in GROUPS.values()])
        return dict(loss_task=task, loss_cost=gamma * (shares * widths).sum())

    def width_distribution(self) -> dict[str, dict] | None:
        """Return the probabilities while searching; the first group leaves the divisors to those who read it."""
        if self.kind != 'search':
            return None
        found = {}
        for (name, width), row in zip(GROUPS.items(), self.logits.detach().softmax(1).tolist(), strict=True):
            found[name] = dict(widths=[width // d for d in DIVISORS], probabilities=row, layers=[f'{name}.conv'])
        found['second']['divisors'] = DIVISORS
        return found


def search(**options) -> dict:
    """Return the config of a :class:`TinySearch` on the digits."""
    return dict(type='TinySearch', student=dict(type='PlainNet'), data_preprocessor=preprocessor(), **options)


def decay(gamma: float = 0.956, **options) -> dict:
    """Return the config of a schedule that multiplies ``tau`` by ``gamma`` after every epoch of its stage."""
    return dict(type='ExponentialParamScheduler', param_name='tau', gamma=gamma) | options
