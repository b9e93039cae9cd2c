"""What is wrong with a config shows before anything is built, read or written."""

import logging
import os
from collections.abc import Callable, Mapping

from mmengine.config import Config
from torch.distributed import is_initialized

from mmrecast.engine import StagedRunner, check_optimizer
from mmrecast.registry import FUNCTIONS, RUNNERS, unknown_type
from mmrecast.stages import Stage, check_schedulers
from mmrecast.utils.config_file import RUNNER_KEYS
from mmrecast.utils.names import closest, nearest

NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
SET_BY = dict(
    pytorch=(('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'torchrun', 'tools/dist_train.sh CONFIG GPUS'),
    slurm=(('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'srun', 'tools/slurm_train.sh'),
    mpi=(('OMPI_COMM_WORLD_LOCAL_RANK',), 'mpirun', 'mpirun python tools/train.py CONFIG --launcher mpi'),
)
"""dict: Per launcher, the variables it needs, what sets them, and a command that does."""


def check_config(cfg: Config) -> None:
    """Check a training config's keys, loaders, schedule and optimisers.

    Args:
        cfg (Config): The config.

    Raises:
        ValueError: Something is missing, misspelt or out of range.
        TypeError: Something is not of the type it should be.
        KeyError: The type of an optimiser or of the runner is not registered.
    """
    _check_keys(cfg)
    _check_forms(cfg)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name) is not None:
            _check_loader(name, cfg[name])
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32):
        raise ValueError(f'randomness.seed must be a whole number from 0 to 2**32 - 1, got {seed!r}')
    runner_type = cfg.get('runner_type', 'StagedRunner')
    if not isinstance(runner_type, str):
        raise ValueError(f'runner_type must be the name of a runner, StagedRunner as a rule, got {runner_type!r}')
    runner = RUNNERS.get(runner_type)
    if runner is None:
        raise KeyError(unknown_type(runner_type, RUNNERS))
    if not issubclass(runner, StagedRunner):
        raise ValueError(f'runner_type must be StagedRunner or a class derived from it, got {runner_type!r}')
    _check_schedule(cfg)


def check_launcher(launcher: str) -> None:
    """Check that the processes of a distributed run have been started as one.

    Raises:
        ValueError: ``launcher`` is unknown, or what it sets in the environment is not there.
    """
    if launcher == 'none' or is_initialized():
        return
    if launcher not in SET_BY:
        raise ValueError(f'launcher must be none, {", ".join(SET_BY)}, got {launcher!r}')
    variables, program, command = SET_BY[launcher]
    absent = [name for name in variables if name not in os.environ]
    if absent:
        raise ValueError(
            f'launcher {launcher!r} needs {", ".join(absent)} in the environment, which {program} sets: '
            f'start with {command}, or leave the launcher out'
        )


def _check_forms(cfg: Config) -> None:
    """Refuse entries of another form than mmengine takes, which it would tell in its own words, or not at all."""
    lists = ('val_evaluator', 'test_evaluator', 'custom_hooks')
    plain = (
        'filename',
        'work_dir',
        'load_from',
        'resume',
        'launcher',
        'experiment_name',
        'default_scope',
        'runner_type',
        'param_scheduler',
        'cfg',
    )
    for key in RUNNER_KEYS:
        value = cfg.get(key)
        if value is None or key in plain:
            continue
        if key == 'log_level':
            if type(value) is not int and (not isinstance(value, str) or type(logging.getLevelName(value)) is not int):
                raise ValueError(f"log_level must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR', got {value!r}")
        elif not isinstance(value, Mapping) and not (key in lists and isinstance(value, list | tuple)):
            raise TypeError(f'{key} must be a dict{" or a list of them" if key in lists else ""}, got {value!r}')
    if not isinstance(cfg.get('default_scope'), str | None):
        raise TypeError(f'default_scope must be a name, got {cfg.default_scope!r}')
    hooks = (cfg.get('default_hooks') or {}).values(), cfg.get('custom_hooks') or []
    for hook in [hook for part in hooks for hook in (part.values() if isinstance(part, Mapping) else part)]:
        if isinstance(hook, str | int | float):
            raise TypeError(f'a hook is given as dict(type=…), got {hook!r}')


def _check_keys(cfg: Config) -> None:
    where = cfg.filename or 'the config'
    for key in cfg:  # mmengine would leave out what it does not know, and train without it
        meant = [] if key in RUNNER_KEYS else closest(key, RUNNER_KEYS, most=1, cutoff=0.85)
        if meant and cfg.get(meant[0]) is None:
            raise ValueError(f'{where}: unknown key {key!r} (nearest: {meant[0]})')
    for key in NEEDED:
        if cfg.get(key) is None:
            raise ValueError(f'{where}: a training config needs {key}{nearest(key, closest(key, cfg))}')
        if not isinstance(cfg[key], Mapping):
            raise TypeError(f'{key} must be a dict, got {cfg[key]!r}')
    for part in ('val', 'test'):
        keys = [f'{part}_dataloader', f'{part}_cfg', f'{part}_evaluator']
        absent = [key for key in keys if cfg.get(key) is None]
        if 0 < len(absent) < 3:
            raise ValueError(f'{where}: {", ".join(keys)} go together, but there is no {" and no ".join(absent)}')
    if not isinstance(cfg.get('custom_hooks') or [], list | tuple):
        raise TypeError(f'custom_hooks must be a list of dict(type=…), got {cfg.custom_hooks!r}')


def _check_loader(name: str, loader: object) -> None:
    if not isinstance(loader, Mapping):
        raise TypeError(f'{name} must be a dict, got {loader!r}')
    # Without a sampler mmengine would not shuffle, without a batch size take one image at a time.
    sizes = [] if loader.get('batch_sampler') is not None else ['batch_size']
    for key in ['dataset', 'sampler', *sizes]:
        if loader.get(key) is None:
            raise ValueError(f'{name} needs {key}{nearest(key, closest(key, loader))}')
    for key in sizes:
        size = loader[key]
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f'{name}.{key} must be a whole number of at least 1, got {size!r}')
    for key in ('dataset', 'sampler', 'batch_sampler', 'collate_fn'):
        if isinstance(loader.get(key), str | int | float) or (isinstance(loader.get(key), Mapping) and not loader[key]):
            raise TypeError(f'{name}.{key} must be a dict(type=…), got {loader[key]!r}')
    workers = loader.get('num_workers', 0)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f'{name}.num_workers must be a whole number of at least 0, got {workers!r}')
    collate = loader.get('collate_fn')
    if isinstance(collate, Mapping) and not isinstance(collate.get('type'), str | Callable):
        raise TypeError(f'{name}.collate_fn needs the type of a function, got {dict(collate)}')
    collate = collate.get('type') if isinstance(collate, Mapping) else None
    if isinstance(collate, str) and FUNCTIONS.get(collate) is None:
        raise KeyError(unknown_type(collate, FUNCTIONS))


def _check_schedule(cfg: Config) -> None:
    if 'type' not in cfg.train_cfg or 'stages' not in cfg.train_cfg:
        raise ValueError(f"train_cfg must be dict(type='StagedLoop', stages=[…]), got {dict(cfg.train_cfg)}")
    check_schedulers(cfg.get('param_scheduler'), 'param_scheduler')
    stages = cfg.train_cfg.stages
    entries = [Stage.from_config(entry) for entry in stages] if isinstance(stages, list | tuple) else []
    own = [(f'optimiser of stage {entry.name!r}', entry.optim_wrapper) for entry in entries if entry.optim_wrapper]
    for what, optim_wrapper in [('optimiser', cfg.optim_wrapper), *own]:
        check_optimizer(what, optim_wrapper)
