"""Differentiable Adjoined Networks (arXiv 2006.05624): the widths of the small network are learned, too.

::

    search: images ─▶ full, small(g) ─▶ CE + λ(t) · (KL + γ · cost(g))       g: Gumbel-softmax, one per width group
    train:  the likeliest widths, the weights of the beginning, as an Adjoined Network
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmrecast.algorithms.adjoined_network import AdjoinedNetwork
from mmrecast.algorithms.searched_pair import SearchedPair
from mmrecast.algorithms.width_cost import build_cost
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.surgery.student_file import Origin, is_weight_file
from mmrecast.surgery.width_rules import adjoined_groups, check_divisor
from mmrecast.surgery.widths import Widths, widths_of
from mmrecast.utils.digests import digest_tensors


@MODELS.register_module()
class DifferentiableAdjoinedNetwork(AdjoinedNetwork):
    """Search the widths of an adjoined network, then train it: stages ``search`` and ``train``.

    In the search every adjoined width group chooses among ``divisors``; weights and choices train together. The
    temperature ``tau`` and the weight ``gamma`` of the cost are in ``scheduled``: parameter schedulers with
    ``param_name='tau'`` or ``'gamma'`` change them. Unlike in the authors' code the noise is drawn at every step, the
    cost counts every layer once, and the layers that a residual sum ties have one choice.

    Args:
        network, checkpoint, above, rule, exclude, kernel_mask, shared_prefix, task_loss, kd_loss, kl_weight,
            warmup, data_preprocessor: See :class:`AdjoinedNetwork`.
        divisors (Sequence[int]): What every group chooses among. Defaults to (1, 2, 4).
        cost (dict): What is to be small: ``dict(type='mults')``, ``dict(type='params')`` or
            ``dict(type='latency', table=FILE)``; see ``algorithms.width_cost``.
        gamma (float): Weight γ of the cost. Defaults to 1e-10.
        tau (float): Temperature τ of the Gumbel-softmax. Defaults to 15.

    Raises:
        ValueError: There are fewer than two divisors to choose among, one does not fit a layer, γ is negative, τ not
            positive, or as for :class:`AdjoinedNetwork`.
        FileNotFoundError, KeyError: As for :class:`AdjoinedNetwork`.
    """

    stage_kinds = ('search', 'train')
    student: SearchedPair

    def __init__(
        self,
        network: dict | str | nn.Module,
        divisors: Sequence[int] = (1, 2, 4),
        cost: Mapping = dict(type='mults'),
        gamma: float = 1e-10,
        tau: float = 15.0,
        **kwargs,
    ) -> None:
        if 'alpha' in kwargs:
            raise ValueError('a search has divisors=(1, 2, 4) to choose among, not alpha')
        super().__init__(network, alpha=_candidates(divisors), **kwargs)
        self.scheduled = dict(tau=tau, gamma=gamma)
        self._check_scheduled()
        self.cost = build_cost(cost, self.graph, {name: self.student.divisors for name in self.student.names})
        self._cost_cfg = dict(cost=dict(cost), gamma=gamma, tau=tau)
        self.stage: Stage | None = None
        self._start = {name: value.detach().clone() for name, value in self.student.full.state_dict().items()}
        given = kwargs.get('checkpoint') is not None or is_weight_file(network)
        self._start_digest = digest_tensors(self.student.full) if given else None  # else the seed tells

    def _build_pair(self, full: nn.Module, alpha: Sequence[int]) -> SearchedPair:
        names = adjoined_groups(self.graph, **self._rule)
        for name in names:
            for divisor in alpha:
                check_divisor(self.graph.groups[name], divisor, 'a divisor')
        suffix = self._suffix(full, widths_of(self.graph, dict.fromkeys(names, max(alpha))))
        return SearchedPair(full, self.graph, names, alpha, self._sharing['kernel_mask'], suffix)

    def _check_scheduled(self) -> None:
        tau, gamma = self.scheduled['tau'], self.scheduled['gamma']
        for name, value in self.scheduled.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f'{name} must be a number, got {value!r}')
        if tau <= 0:
            raise ValueError(f'the temperature tau must be greater than 0, got {tau:g}')
        if gamma < 0:
            raise ValueError(f'the weight gamma of the cost must be at least 0, got {gamma:g}: it would reward cost')

    # ---- stages -----------------------------------------------------------------------------------------------------

    def expand(self, entries: Sequence[Stage]) -> list[Stage]:
        """See the base class.

        Raises:
            ValueError: The stages are not a search and the training of what it found.
        """
        entries = super().expand(entries)
        kinds = [entry.kind for entry in entries]
        if kinds != ['search', 'train']:
            raise ValueError(
                f'the schedule of a search is search, train, got {", ".join(kinds)}: stages=[dict(kind="search", …), '
                'dict(kind="train", …)]; widths that are known train with AdjoinedNetwork(alpha=…)'
            )
        return entries

    def begin_stage(self, stage: Stage, batches: Iterable[dict] = (), initialise: bool = True) -> None:
        """Train everything; before ``train``, settle the widths and go back to the weights of the beginning."""
        self.stage = stage
        if stage.kind == 'train' and initialise:
            self.student.full.load_state_dict(self._start)
            self.student.settle(self.student.choice())
        super().begin_stage(stage, batches, initialise)
        self.student.width_logits.requires_grad_(stage.kind == 'search')

    def structure(self) -> dict:
        """See the base class: the widths, once they are settled."""
        return {} if self.student.settled is None else dict(divisors=dict(self.student.settled))

    def restore_structure(self, stages: Sequence[Stage], index: int, started: bool, structure: dict) -> None:
        """See the base class.

        Raises:
            ValueError: The checkpoint's widths are not those of this network.
        """
        settled = structure.get('divisors')
        if settled is not None:
            known = set(self.student.divisors)
            if set(settled) != set(self.student.names) or not set(settled.values()) <= known:
                raise ValueError('the checkpoint settles widths of other layers than this network has')
            self.student.settle(settled)
        super().restore_structure(stages, index, started, structure)

    # ---- losses -----------------------------------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        """Return ``loss_task``, ``loss_kd`` and, in a search, ``loss_cost``, λ γ times the expected ``cost``."""
        if self.student.settled is not None:
            return super().loss(inputs, data_samples)
        self._check_scheduled()
        probabilities = self.student.sample(self.scheduled['tau'])
        full, small = self.student.both(inputs, probabilities)
        cost = self.cost(dict(zip(self.student.names, probabilities, strict=True)))
        return dict(
            loss_task=self.task_loss(full, data_samples['gt_label']),
            loss_kd=self.kl_factor * self.kd_loss(small, full),
            loss_cost=self.kl_factor * self.scheduled['gamma'] * cost,
            cost=cost.detach(),
        )

    # ---- what is left -----------------------------------------------------------------------------------------------

    def width_distribution(self) -> dict[str, dict] | None:
        """Return, during the search, what every group leans to.

        Returns:
            dict[str, dict]: By group: ``widths`` (its channels under each divisor), ``divisors``, ``probabilities``
            (that the divisor is drawn) and ``layers`` (paths); None once the widths are settled.
        """
        if self.student.settled is not None:
            return None
        with torch.no_grad():
            rows = self.student.width_logits.softmax(1).tolist()
        found = {}
        for name, row in zip(self.student.names, rows, strict=True):
            group = self.graph.groups[name]
            divisors = list(self.student.divisors)
            widths = [max(group.widths) // divisor for divisor in divisors]
            found[name] = dict(widths=widths, divisors=divisors, probabilities=row, layers=list(group.layers))
        return found

    @property
    def small_widths(self) -> Widths | None:
        """Widths: Of the small network, None before the search has ended."""
        return None if self.student.settled is None else self.student.widths

    @property
    def kept_networks(self) -> dict[str, tuple[nn.Module, Origin]]:
        """dict[str, tuple]: See the base class.

        Raises:
            ValueError: The search has not ended, so that the small network has no widths yet.
        """
        if self.student.settled is None:
            raise ValueError('the search has not ended: the small network has no widths before the stage train begins')
        return super().kept_networks

    def fingerprint(self) -> dict:
        """See the base class."""
        return super().fingerprint() | dict(search=str(self._cost_cfg), start=self._start_digest)


def _candidates(divisors: object) -> tuple[int, ...]:
    """Check what a search chooses among."""
    different = {str(divisor) for divisor in divisors} if isinstance(divisors, list | tuple) else ()
    if len(different) < 2 or len(different) != len(divisors):
        raise ValueError(f'a search needs two or more different divisors to choose among, got {divisors!r}')
    return tuple(divisors)
