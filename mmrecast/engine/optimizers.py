"""Optimisers and schedulers of a stage: fitted to its length, and tried out so that mistakes show before training."""

import copy
import math
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import nn

from mmrecast.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, PARAM_SCHEDULERS, unknown_type
from mmrecast.stages import Stage
from mmrecast.utils.mistakes import explain, explained

LENGTH_KEYS = dict(CosineAnnealing='T_max', OneCycle='total_steps')  # other schedulers go by their end
NUMBERS = ('lr', 'momentum', 'weight_decay', 'eps', 'dampening')


class _Probe(nn.Module):
    def __init__(self, device: torch.device | str | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, device=device))


def check_optimizer(
    what: str,
    optim_wrapper: dict,
    schedulers: Sequence[dict] = (),
    epoch_length: int | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Build an optimiser and its schedulers and take one step with them.

    Args:
        what (str): What they are, for the message.
        optim_wrapper (dict): Config of the optimiser wrapper.
        schedulers (Sequence[dict]): Configs of the schedulers, complete. Defaults to none.
        epoch_length (int, optional): Iterations of an epoch, for schedulers that count epochs.
        device (torch.device | str, optional): Where training will be. Defaults to None: no step is taken.

    Raises:
        ValueError: A value is out of range, not a number, or an argument is unknown.
        KeyError: A type is not registered.
    """
    try:
        cfg = _checked(optim_wrapper)
        name = cfg.pop('constructor', 'DefaultOptimWrapperConstructor')
        if name != 'DefaultOptimWrapperConstructor':  # it may ask the real network
            return
        with explained():
            type_ = cfg['optimizer']['type']
            if isinstance(type_, str) and OPTIMIZERS.get(type_) is None:
                raise KeyError(unknown_type(type_, OPTIMIZERS))
            build = dict(type=name, optim_wrapper_cfg=cfg, paramwise_cfg=cfg.pop('paramwise_cfg', None))
            probe = _Probe(device)
            wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(build)(probe)
            for group in wrapper.optimizer.param_groups:
                if not 0 <= group.get('momentum', 0) < 1:
                    raise ValueError(f'momentum must be at least 0 and smaller than 1, got {group["momentum"]}')
            extra = dict(optimizer=wrapper.optimizer, epoch_length=epoch_length)
            built = [PARAM_SCHEDULERS.build(copy.deepcopy(dict(s)), default_args=extra) for s in schedulers]
            if device is None:
                return
            probe.weight.grad = torch.ones_like(probe.weight)
            if wrapper.clip_grad_kwargs:
                wrapper.clip_func([probe.weight], **wrapper.clip_grad_kwargs)
            wrapper.optimizer.step()
            for scheduler in built:
                scheduler.step()
    except KeyError:
        raise
    except Exception as error:  # what a library makes of a wrong value may be anything
        raise ValueError(f'{what}: {explain(error)}') from error


def _checked(optim_wrapper: dict) -> dict:
    """Return a copy of the config, its numbers checked: torch does not refuse NaN, and of text says little."""
    optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, Mapping) else None
    if not isinstance(optimizer, Mapping) or 'type' not in optimizer:
        example = "optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))"
        raise ValueError(f'it is given as {example}, got {optim_wrapper!r}')
    for key in NUMBERS:
        value = optimizer.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, Real | torch.Tensor) or not math.isfinite(value):
            raise ValueError(f'{key} must be a number, got {value!r}')
    return copy.deepcopy(dict(optim_wrapper))


def fit_scheduler(stage: Stage, scheduler: dict, batches: int) -> dict:
    """Give a scheduler the stage's length where it names none.

    A cosine or one-cycle without a length of its own falls at every iteration; the others count as their stage does.
    """
    scheduler = copy.deepcopy(dict(scheduler))
    key = next((k for name, k in LENGTH_KEYS.items() if str(scheduler.get('type', '')).startswith(name)), None)
    smooth = key is not None and not {key, 'begin', 'end'} & set(scheduler)
    in_epochs = 'convert_to_iter_based' in scheduler or (stage.epochs is not None and not smooth)
    by_epoch = scheduler.setdefault('by_epoch', in_epochs)
    iters = stage.total_iters(batches)
    length = iters if not by_epoch else (stage.epochs or -(-iters // batches))
    end = scheduler.setdefault('end', max(length, 1))  # a stage of length 0 has a scheduler, too
    if key is not None:
        scheduler.setdefault(key, max(end - scheduler.get('begin', 0), 1))
    return scheduler
