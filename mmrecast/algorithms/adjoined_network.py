"""Adjoined Networks (arXiv 2006.05624): a full network and a narrow one with the same weights train together.

::

    images ─┬▶ full  ─▶ CE(labels)  ─┐
            │    ╎ shared weights    ├─▶ loss = CE + λ(t) · KL(full ‖ small)
            └▶ small ─▶ KL ──────────┘
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrecast.algorithms.adjoined_pair import AdjoinedPair
from mmrecast.algorithms.base import Distiller, as_text
from mmrecast.algorithms.start import start_network
from mmrecast.links.parts import build_loss
from mmrecast.links.prefix import Suffix, last_before
from mmrecast.models import load_weights
from mmrecast.registry import MODELS
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.student_file import Origin
from mmrecast.surgery.width_rules import divisors_for
from mmrecast.surgery.widths import Widths, widths_of
from mmrecast.utils.modules import device_of


@MODELS.register_module()
class AdjoinedNetwork(Distiller):
    """Train a full network and a small one that shares its weights, ``CE(full) + λ(t) KL(full ‖ small)``.

    The small network has the first 1/α of the filters of every adjoined convolution; which ones are adjoined is found
    by running the network once (see ``surgery.channels``), so that it may be any convolutional classifier. Both are
    left as plain networks: the small one is the student, the full one is ``full``. Unlike in the authors' code the
    small path is truly narrow and never reads the full one's activations: what is taken away is what was trained.

    Args:
        network (dict | str | nn.Module): The full network: config, name, config path, or ``student.pth`` of an earlier
            run (a recast student can be adjoined).
        checkpoint (str, optional): File with its weights. Defaults to None: as it is initialised.
        alpha (int | dict[str, int]): Width divisor α of all adjoined layers, or by pattern of modules; see
            ``surgery.width_rules.divisors_for``. Defaults to 4.
        above, rule, exclude: What is adjoined; see ``surgery.width_rules.adjoined_groups``.
        kernel_mask (float): Share of a kernel's places that is zero in the small network's narrowed convolutions, drawn
            once per layer. Defaults to 0.
        shared_prefix (bool): Whether what comes before the first narrowed layer (stem and first stage) runs once for
            both networks, with one set of normalisation layers: a cheaper step. Defaults to False: each network
            normalises everywhere on its own, as the paper has it.
        task_loss (dict): Loss of the full network against the labels. Defaults to ``CrossEntropyLoss``.
        kd_loss (dict): Loss of the small network's logits against the full one's. Defaults to ``KLDivergence`` at
            temperature 1, whose gradient reaches both networks as in the authors' code (``teacher_detach=True`` keeps
            it from the full one).
        kl_weight (float): λ at the end. Defaults to 1.
        warmup (float): Share p of the stage in which λ grows, as (t/p)². Defaults to 0.5: the authors' min(4 t², 1).
        data_preprocessor (dict | nn.Module): See :class:`Distiller`; its ``input_shape`` is needed.

    Raises:
        ValueError: Nothing can be adjoined, α does not fit a layer, groups that narrow together are given different
            ones, or a number is out of range.
        FileNotFoundError: ``checkpoint`` does not exist.
        KeyError: A type is not registered.
    """

    stage_kinds = ('train',)
    student: AdjoinedPair

    def __init__(
        self,
        network: dict | str | nn.Module,
        checkpoint: str | None = None,
        alpha: int | Mapping[str, int] = 4,
        above: int = 64,
        rule: str = 'auto',
        exclude: Sequence[str] = (),
        kernel_mask: float = 0.0,
        shared_prefix: bool = False,
        task_loss: dict | nn.Module = dict(type='CrossEntropyLoss'),
        kd_loss: dict | nn.Module = dict(type='KLDivergence', tau=1.0, teacher_detach=False),
        kl_weight: float = 1.0,
        warmup: float = 0.5,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        _check_number('kernel_mask', kernel_mask, below=1.0)
        if not isinstance(shared_prefix, bool):
            raise ValueError(f'shared_prefix is True or False, got {shared_prefix!r}')
        self.kl_weight = _check_number('kl_weight', kl_weight)
        self.warmup = _check_number('warmup', warmup, most=1.0)
        self.task_loss, self.kd_loss = build_loss(task_loss, 'task_loss'), build_loss(kd_loss, 'kd_loss')
        full, self._full_origin = start_network(network)
        if checkpoint is not None:
            load_weights(full, checkpoint)
        full.requires_grad_(True)
        self.graph = trace_channels(full, self.input_shape)
        self._rule = dict(above=above, rule=rule, exclude=exclude)
        self._sharing = dict(kernel_mask=kernel_mask, shared_prefix=shared_prefix)
        self.student = self._build_pair(full, alpha)
        self._options = dict(alpha=alpha, kl_weight=kl_weight, warmup=warmup) | self._rule | self._sharing
        self._loss_cfgs = as_text([task_loss, kd_loss])

    def _build_pair(self, full: nn.Module, alpha: object) -> AdjoinedPair:
        widths = widths_of(self.graph, divisors_for(self.graph, alpha, **self._rule))
        return AdjoinedPair(full, widths, self._sharing['kernel_mask'], self._suffix(full, widths))

    def _suffix(self, full: nn.Module, narrowed: Widths) -> Suffix | None:
        """Return what the small network must run on its own, None for all of it."""
        if not self._sharing['shared_prefix']:
            return None
        if not narrowed.layers:
            raise ValueError('shared_prefix needs a layer that is narrowed: here both networks are one')
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            images = torch.randn(2, *self.input_shape, device=device_of(full))
        try:
            return last_before(full, narrowed.layers, images)
        except ValueError as error:
            raise ValueError(f'shared_prefix cannot be: {error}') from error

    # ---- losses -----------------------------------------------------------------------------------------------------

    @property
    def kl_factor(self) -> float:
        """float: λ now: ``kl_weight`` · min((progress / warmup)², 1)."""
        share = min(self.progress / self.warmup, 1.0) if self.warmup else 1.0
        return self.kl_weight * share**2

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        """Return ``loss_task`` of the full network and ``loss_kd``, λ KL(full ‖ small)."""
        full, small = self.student.both(inputs)
        task = self.task_loss(full, data_samples['gt_label'])
        return dict(loss_task=task, loss_kd=self.kl_factor * self.kd_loss(small, full))

    # ---- what is left -----------------------------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        """Origin: Of the small network."""
        widths = self.small_widths
        return self._full_origin if widths is None else self._full_origin.narrowed(widths)

    @property
    def small_widths(self) -> Widths:
        """Widths: Of the small network."""
        return self.student.widths

    @property
    def kept_networks(self) -> dict[str, tuple[nn.Module, Origin]]:
        """dict[str, tuple]: The small network ('') and the full one, plain, with their origins."""
        return {'': (self.student.extract(), self.origin_so_far()), 'full': (self.student.full, self._full_origin)}

    @property
    def judged_networks(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: See the base class."""
        return {'full network': self.student.full, 'small network': self.student}

    def fingerprint(self) -> dict:
        """See the base class."""
        network = as_text([self._full_origin.constructor, self._full_origin.changes()])
        return super().fingerprint() | dict(network=network, widths=as_text([self._options]), losses=self._loss_cfgs)


def _check_number(name: str, value: object, most: float = math.inf, below: float = math.inf) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 <= value <= most or value >= below:
        upper = f' and at most {most:g}' if most < math.inf else f' and below {below:g}' if below < math.inf else ''
        raise ValueError(f'{name} must be a number of at least 0{upper}, got {value!r}')
    return float(value)
