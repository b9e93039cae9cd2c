"""Optimisers and schedulers of a stage: fitted to its length, and tried out so that mistakes show before training.

An algorithm that trains parts of itself apart has an optimiser for each, by name; its schedulers may be, too::

    optim_wrapper=dict(student=dict(type='OptimWrapper', optimizer=dict(…)), generator=dict(…))
    param_scheduler=dict(student=[dict(type='MultiStepLR', …)], generator=dict(…))
"""

import copy
import math
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from torch import nn

from mmrecast.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, PARAM_SCHEDULERS, unknown_type
from mmrecast.stages import Stage, by_optimizer
from mmrecast.utils.mistakes import explain, explained
from mmrecast.utils.names import nearest

LENGTH_KEYS = dict(CosineAnnealing='T_max', OneCycle='total_steps')  # other schedulers go by their end
NUMBERS = ('lr', 'momentum', 'weight_decay', 'eps', 'dampening')
SEPARATE = 'SeparateOptimWrapperConstructor'
FUSED = ('Adam', 'AdamW', 'SGD')  # of PyTorch, by name; one pass over memory for each parameter instead of many


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
    others: Sequence[str] = (),
) -> None:
    """Build an optimiser and its schedulers and take one step with them.

    Args:
        what (str): What they are, for the message.
        optim_wrapper (dict): Config of the optimiser wrapper, or several by name.
        schedulers (Sequence[dict]): Configs of the schedulers, complete; one dict of them by name. Defaults to none.
        epoch_length (int, optional): Iterations of an epoch, for schedulers that count epochs.
        device (torch.device | str, optional): Where training will be. Defaults to None: no step is taken.
        others (Sequence[str]): What schedulers may name beside the optimiser's own. Defaults to nothing.

    Raises:
        ValueError: A value is out of range, not a number, or an argument is unknown.
        KeyError: A type is not registered.
    """
    named = named_optimizers(optim_wrapper)
    try:
        own = schedulers_by_name(schedulers, named)
    except ValueError as error:
        raise ValueError(f'{what}: {error}') from error
    for name, one in named.items():
        check_optimizer(f'{what}: {name}', one, own[name], epoch_length, device, others)
    if named:
        return
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
            _check_names(schedulers, wrapper.optimizer, others)
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


def _check_names(schedulers: Sequence[dict], optimizer: torch.optim.Optimizer, others: Sequence[str]) -> None:
    """Refuse a ``param_name`` that neither the optimiser has nor ``others``."""
    own = optimizer.param_groups[0]
    known = [name for name, value in own.items() if isinstance(value, Real) and not isinstance(value, bool)]
    for name in (one['param_name'] for one in schedulers if 'param_name' in one):
        if name not in own:
            raise ValueError(f'no value to be scheduled is called {name!r}{nearest(str(name), [*others, *known])}')


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


def named_optimizers(optim_wrapper: object) -> dict[str, dict]:
    """Return the configs of several optimisers by name, none where the config is that of one.

    A ``type`` beside the names (mixed precision is asked for there) holds for all of them.
    """
    if not isinstance(optim_wrapper, Mapping) or 'optimizer' in optim_wrapper:
        return {}
    named = {key: value for key, value in optim_wrapper.items() if key not in ('type', 'constructor')}
    if not any(isinstance(one, Mapping) and 'optimizer' in one for one in named.values()):
        return {}
    shared = {'type': optim_wrapper['type']} if 'type' in optim_wrapper else {}
    return {name: {**one, **shared} if isinstance(one, Mapping) else one for name, one in named.items()}


def schedulers_by_name(schedulers: Sequence[dict], names: Sequence[str]) -> dict[str, list[dict]]:
    """Return the schedulers of each optimiser: its own where they are given by name, else all of them.

    Args:
        schedulers (Sequence[dict]): Configs, or a single dict of them by name.
        names (Sequence[str]): The optimisers; '' stands for the only one where this is empty.

    Raises:
        ValueError: A name is none of the optimisers'.
    """
    given = [one for one in schedulers if by_optimizer(one)]
    if not given:
        return {name: list(schedulers) for name in names or ['']}
    for name in given[0]:
        if not names:
            raise ValueError(f'param_scheduler is given for {", ".join(given[0])}, but there is one optimiser only')
        if name not in names:
            raise ValueError(f'param_scheduler is given for {name!r}, which is no optimiser{nearest(name, names)}')
    return {name: _as_list(given[0].get(name, [])) for name in names}


def check_parts(what: str, optim_wrapper: Mapping, parts: Sequence[str]) -> None:
    """Compare the names of optimisers with the parts that an algorithm trains apart.

    Args:
        what (str): What they are, for the message.
        optim_wrapper (dict): Config of the optimiser wrapper, or several by name.
        parts (Sequence[str]): Names of the parts; none where everything has one optimiser.

    Raises:
        ValueError: A part has no optimiser, an optimiser no part, or there are several where one is needed.
    """
    names = list(named_optimizers(optim_wrapper))
    if not parts and names:
        raise ValueError(f'{what}: several are given ({", ".join(names)}), but all that trains here has one optimiser')
    if not parts or optim_wrapper.get('constructor', SEPARATE).split('.')[-1] != SEPARATE:
        return
    example = ', '.join(f"{part}=dict(type='OptimWrapper', optimizer=dict(…))" for part in parts)
    if not names:
        raise ValueError(f'{what}: {" and ".join(parts)} have one each: optim_wrapper=dict({example})')
    for name in names:
        if name not in parts:
            raise ValueError(f'{what}: nothing is called {name!r} that could be trained{nearest(name, parts)}')
    absent = [part for part in parts if part not in names]
    if absent:
        raise ValueError(f'{what}: there is none for {", ".join(absent)}: optim_wrapper=dict({example})')


class SeparateOptimWrappers(OptimWrapperDict):
    """Optimisers by name, each with its own count of steps.

    Args:
        steps (Mapping[str, int]): How many steps each takes in an iteration of the loop.
        **wrappers (OptimWrapper): The optimisers.
    """

    def __init__(self, steps: Mapping[str, int], **wrappers) -> None:
        super().__init__(**wrappers)
        self.steps = dict(steps)

    def initialize_count_status(self, model: nn.Module, cur_iter: int, max_iters: int) -> None:
        """Tell each optimiser how many steps it has taken and will take."""
        for name, wrapper in self.items():
            each = self.steps.get(name, 1)
            wrapper.initialize_count_status(model, cur_iter * each, max_iters * each)

    def should_update(self) -> bool:
        """Tell whether no optimiser holds gradients that wait for a step."""
        return all(wrapper.should_update() for wrapper in self.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=SEPARATE)
class SeparateOptimWrapperConstructor:
    """Build one optimiser for each part of an algorithm that trains apart (name and config are MMRazor's).

    Args:
        optim_wrapper_cfg (dict): Configs by name, each with its own ``paramwise_cfg`` if any.
        paramwise_cfg (dict, optional): None.

    Raises:
        ValueError: ``paramwise_cfg`` is given.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg is not None:
            raise ValueError('paramwise_cfg belongs into the config of one of the optimisers')
        self.configs = named_optimizers(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> SeparateOptimWrappers:
        """Return the optimisers of ``model.optimizer_parts``."""
        wrappers = {}
        for name, part in model.optimizer_parts.items():
            cfg = copy.deepcopy(self.configs[name])
            paramwise = cfg.pop('paramwise_cfg', None)
            wrappers[name] = DefaultOptimWrapperConstructor(cfg, paramwise)(part)
        return SeparateOptimWrappers(model.optimizer_steps, **wrappers)


def fused(optim_wrapper: dict | OptimWrapper) -> dict | OptimWrapper:
    """Ask for PyTorch's fused step where a config of an optimiser (or of several by name) leaves that open.

    It computes the same, up to rounding, on CPUs and GPUs. A checkpoint brings its own choice along: a run that began
    without it goes on without it.
    """
    named = named_optimizers(optim_wrapper)
    if named:
        return dict(optim_wrapper) | {name: fused(one) for name, one in named.items()}
    optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, Mapping) else None
    if not isinstance(optimizer, Mapping) or optimizer.get('type') not in FUSED:
        return optim_wrapper
    if {'fused', 'foreach', 'differentiable'} & set(optimizer):
        return optim_wrapper
    return dict(optim_wrapper) | dict(optimizer=dict(optimizer, fused=True))


def _as_list(schedulers: Mapping | Sequence[Mapping]) -> list:
    return [schedulers] if isinstance(schedulers, Mapping) else list(schedulers)


def fit_scheduler(stage: Stage, scheduler: dict, batches: int) -> dict:
    """Give a scheduler the stage's length where it names none.

    A cosine or one-cycle without a length of its own falls at every iteration; the others count as their stage does.
    Schedulers by name are fitted one by one.
    """
    if by_optimizer(scheduler):
        return {k: [fit_scheduler(stage, one, batches) for one in _as_list(v)] for k, v in scheduler.items()}
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
