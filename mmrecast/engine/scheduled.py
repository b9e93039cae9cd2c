"""Values of an algorithm that mmengine's parameter schedulers change as they change an optimiser's.

An algorithm lists them in ``scheduled``; a scheduler of a stage names one as its ``param_name``::

    scheduled = dict(tau=15.0)
    param_scheduler=dict(type='ExponentialParamScheduler', param_name='tau', gamma=0.956)
"""

import copy
from collections import ChainMap
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from mmengine.optim import BaseOptimWrapper, _ParamScheduler

from mmrecast.engine.optimizers import check_optimizer
from mmrecast.registry import PARAM_SCHEDULERS
from mmrecast.stages import Stage, by_optimizer
from mmrecast.utils.mistakes import explain

TRIED = 20_000  # steps of a schedule, before training


class _Group(ChainMap):
    """The values, written where the algorithm reads them, beneath what schedulers note of where they began."""

    def __init__(self, values: dict[str, float]) -> None:
        super().__init__({}, values)

    def __setitem__(self, name: str, value: float) -> None:
        notes, values = self.maps
        if name not in values:
            notes[name] = value
            return
        if not isfinite(value) or value < 0:
            raise ValueError(f'its schedule drives {name} to {value:g}: it must stay finite and at least 0')
        values[name] = value


@BaseOptimWrapper.register
class ScheduledValues:
    """What mmengine's schedulers take for an optimiser.

    Args:
        values (dict[str, float]): An algorithm's ``scheduled``: its one parameter group, changed in place.
    """

    def __init__(self, values: dict[str, float]) -> None:
        self.param_groups = [_Group(values)]
        self.base_param_settings = None
        self.optimizer = self

    def step(self) -> None:
        """Do nothing: values have no gradients. mmengine counts the calls."""


def split_schedulers(schedulers: Sequence[dict], scheduled: Mapping[str, float]) -> tuple[list[dict], list[dict]]:
    """Tell schedulers of an algorithm's values from those of its optimisers.

    Args:
        schedulers (Sequence[dict]): Configs, or a single dict of them by the name of the optimiser.
        scheduled (Mapping[str, float]): The values.

    Returns:
        tuple[list[dict], list[dict]]: Configs for the values, and all others in the form they were given in.
    """
    values, others = [], []
    for one in schedulers:
        if by_optimizer(one):
            own = {name: [part] if isinstance(part, Mapping) else list(part) for name, part in one.items()}
            split = {name: split_schedulers(part, scheduled) for name, part in own.items()}
            values += [scheduler for part, _ in split.values() for scheduler in part]
            others.append({name: part for name, (_, part) in split.items()})
        else:
            (values if one.get('param_name') in scheduled else others).append(one)
    return values, others


def value_schedulers(schedulers: Sequence[dict], values: dict[str, float], epoch_length: int) -> list[_ParamScheduler]:
    """Build the schedulers of an algorithm's values.

    Args:
        schedulers (Sequence[dict]): Configs, complete.
        values (dict[str, float]): What they change, in place.
        epoch_length (int): Iterations of an epoch.
    """
    target = ScheduledValues(values)
    extra = dict(optimizer=target, epoch_length=epoch_length)
    built = [PARAM_SCHEDULERS.build(copy.deepcopy(dict(one)), default_args=extra) for one in schedulers]
    target.step()  # mmengine warns of schedulers that go on before their optimiser does
    return built


def check_stage(
    stage: Stage,
    optim_wrapper: dict,
    schedulers: Sequence[dict],
    scheduled: Mapping[str, float],
    epoch_length: int,
    device: torch.device | str,
) -> None:
    """Try out what a stage trains with: its optimiser and each scheduler, those of values over the whole stage.

    Args:
        stage (Stage): The stage.
        optim_wrapper (dict): Config of its optimiser wrapper, or several by name.
        schedulers (Sequence[dict]): Configs of its schedulers, complete; one dict of them by name.
        scheduled (Mapping[str, float]): The algorithm's values as they are at the stage's beginning.
        epoch_length (int): Iterations of an epoch.
        device (torch.device | str): Where training will be.

    Raises:
        ValueError: An argument is unknown or out of range, a scheduler names what nobody has, or a value would become
            negative or no finite number (sought in the first 20 000 iterations).
        KeyError: A type is not registered.
    """
    values, others = split_schedulers(schedulers, scheduled)
    check_optimizer(f'optimiser of stage {stage.name!r}', optim_wrapper, others, epoch_length, device, [*scheduled])
    names = ', '.join(sorted({one['param_name'] for one in values}))
    try:
        for one in values:
            _check_type(one)
        silent = [dict(one, verbose=False) if 'verbose' in one else one for one in values]
        built = value_schedulers(silent, dict(scheduled), epoch_length)
        _walk(built, stage.total_iters(epoch_length), epoch_length)
    except Exception as error:  # what a library makes of a wrong value may be anything
        again = KeyError if isinstance(error, KeyError) else ValueError
        raise again(f'scheduler of {names} in stage {stage.name!r}: {explain(error)}') from error


def restore_scheduled(model: Any, content: Mapping) -> None:
    """Give an algorithm's values what a checkpoint holds of them; one that is older holds none."""
    model.scheduled.update({name: v for name, v in content.get('scheduled', {}).items() if name in model.scheduled})


def _check_type(scheduler: Mapping) -> None:
    """Refuse schedulers that are made for the learning rate or momentum alone."""
    name = scheduler['type']
    for ending in ('LR', 'Momentum') if isinstance(name, str) else ():
        other = f'{name.removesuffix(ending)}ParamScheduler'
        if name.endswith(ending) and PARAM_SCHEDULERS.get(other) is not None:
            raise ValueError(f'{name} takes no param_name: use {other}')


def _walk(schedulers: Sequence[_ParamScheduler], iters: int, epoch_length: int) -> None:
    """Step as training does, by whole epochs where no scheduler counts iterations."""
    stride = epoch_length if all(one.by_epoch for one in schedulers) else 1
    for step in range(1, min(-(-iters // stride), TRIED) + 1):
        for one in schedulers:
            if not one.by_epoch or step * stride % epoch_length == 0:
                one.step()
