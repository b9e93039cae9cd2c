"""One budget for a whole schedule: its stages and their schedulers are scaled to it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real

from mmrecast.stages import Stage, by_optimizer

DECAYS = 'Exponential'  # a scheduler without a length, whose gamma is that of one step
LENGTHS = ('milestones', 'step_size', 'T_max', 'T_0', 'total_iters', 'total_steps', 'begin', 'end')


def within_budget(
    stages: Sequence[Stage],
    budget: int,
    batches: int | Sequence[int],
    starts: Sequence[int],
    scheduler: Mapping | Sequence[Mapping] | None = None,
) -> list[Stage]:
    """Scale the lengths of stages, in proportion, so that they take ``budget`` iterations in all.

    Args:
        stages (Sequence[Stage]): Of any lengths; those of length 0 keep it, any other keeps at least 1.
        budget (int): Iterations of all stages, starts included.
        batches (int | Sequence[int]): Iterations of an epoch; per stage, where they differ.
        starts (Sequence[int]): Per stage, how many iterations' images its start reads, which count, too.
        scheduler (dict | list[dict], optional): What stages without a ``param_scheduler`` have.

    Returns:
        list[Stage]: Their lengths, and the lengths in their schedulers, are in iterations.

    Raises:
        ValueError: ``budget`` is no positive whole number, or too small for an iteration of every stage.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise ValueError(f'budget of the StagedLoop must be a whole number of iterations, at least 1, got {budget!r}')
    epochs = [batches] * len(stages) if isinstance(batches, int) else list(batches)
    lengths = [stage.total_iters(n) for stage, n in zip(stages, epochs, strict=True)]
    least, rest = sum(n > 0 for n in lengths) + sum(starts), budget - sum(starts)
    if budget < least:
        raise ValueError(
            f'a budget of {budget} iterations is too small: the {len(stages)} stages need at least {least}'
            + (f', {sum(starts)} of them for what their starts read' if sum(starts) else '')
        )
    scaled, spent, passed = [], 0, 0
    for position, length in enumerate(lengths):  # rounding errors do not add up: each ends where it should
        passed += length
        behind = sum(n > 0 for n in lengths[position + 1 :])
        wanted = rest * passed // max(sum(lengths), 1) - spent
        scaled.append(min(max(wanted, 1), rest - spent - behind) if length else 0)
        spent += scaled[-1]
    return [
        replace(stage, epochs=None, iters=new, param_scheduler=_scaled(stage, scheduler, new / max(old, 1), n))
        for stage, old, new, n in zip(stages, lengths, scaled, epochs, strict=True)
    ]


def _scaled(
    stage: Stage, default: Mapping | Sequence[Mapping] | None, factor: float, batches: int
) -> Mapping | list | None:
    given = stage.param_scheduler if stage.param_scheduler is not None else default
    if given is None:
        return None
    if by_optimizer(given):
        return {
            name: _scaled(replace(stage, param_scheduler=own), None, factor, batches) for name, own in given.items()
        }
    if isinstance(given, list | tuple):
        return [_scaled_one(stage, one, factor, batches) for one in given]
    return _scaled_one(stage, given, factor, batches)


def _scaled_one(stage: Stage, scheduler: Mapping, factor: float, batches: int) -> dict:
    scheduler = copy.deepcopy(dict(scheduler))
    gamma = scheduler.get('gamma') if str(scheduler.get('type')).split('.')[-1].startswith(DECAYS) else None
    decays = isinstance(gamma, Real) and gamma > 0
    if not decays and not set(LENGTHS) & set(scheduler):
        return scheduler
    in_epochs = scheduler.get('by_epoch', stage.epochs is not None) or 'convert_to_iter_based' in scheduler
    unit = factor * (batches if in_epochs else 1)
    if decays:
        scheduler['gamma'] = gamma ** (1 / unit)
    for key in set(LENGTHS) & set(scheduler):
        value = scheduler[key]
        lengths = [max(round(n * unit), int(n > 0)) for n in (value if isinstance(value, list | tuple) else [value])]
        scheduler[key] = lengths if isinstance(value, list | tuple) else lengths[0]
    scheduler.pop('convert_to_iter_based', None)
    return scheduler | dict(by_epoch=False)
