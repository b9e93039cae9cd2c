"""Train and test by a config: what the command lines do."""

import copy
import itertools
import json
import os
from pathlib import Path

import torch
from mmengine.config import Config

from mmrecast.apis.config_check import check_config, check_launcher
from mmrecast.engine import StagedRunner, latest_checkpoint, read_checkpoint
from mmrecast.registry import RUNNERS
from mmrecast.surgery.student_file import is_student, load_student
from mmrecast.utils.checkpoint import load_file
from mmrecast.utils.setup_env import register_all_modules

_runs = itertools.count()


def prepare(
    cfg: Config,
    work_dir: str | None = None,
    resume: bool | str = False,
    amp: bool = False,
    launcher: str = 'none',
    data_root: str | None = None,
    deterministic: bool = False,
) -> Config:
    """Return a copy of ``cfg`` with what is left to the command line filled in.

    Args:
        cfg (Config): The config.
        work_dir (str, optional): Where results go. Defaults to the config's, else ``work_dirs/<config name>``.
        resume (bool | str): Whether to go on from the work dir's last checkpoint, or the checkpoint to go on from.
        amp (bool): Whether to train in mixed precision: float16 with scaled losses on a GPU, bfloat16 on a CPU.
            Defaults to False.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        data_root (str, optional): Where the data of every loader lies. Defaults to what the config says.
        deterministic (bool): Whether every operator has to give the same bits every time, on a GPU, too; one that
            cannot ends the run. Defaults to False: as ``randomness`` of the config says.

    Raises:
        ValueError, TypeError, KeyError: The config is wrong (see `check_config`), or there is nothing to resume.
        FileNotFoundError: The checkpoint to resume from does not exist.
    """
    cfg = copy.deepcopy(cfg)
    register_all_modules()
    check_launcher(launcher)
    check_config(cfg)
    name = Path(cfg.filename or 'run').stem
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    if os.path.exists(cfg.work_dir) and not os.path.isdir(cfg.work_dir):
        raise FileExistsError(f'the work_dir {cfg.work_dir} is a file, a folder is needed')
    cfg.launcher = launcher
    # mmengine adds the second and keeps one message hub per name: two runs of one second must not share it
    cfg.experiment_name = cfg.get('experiment_name') or f'{name}_{os.getpid()}.{next(_runs)}'
    if data_root is not None:
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(loader) is not None:
                cfg[loader].dataset.data_root = data_root
    if resume:
        cfg.resume, cfg.load_from = True, latest_checkpoint(cfg.work_dir) if resume is True else resume
        content = read_checkpoint(cfg.load_from)  # what is wrong with it shows before anything is built or written
        if (cfg.get('randomness') or {}).get('seed') is None:  # it was drawn
            cfg.randomness = dict(cfg.get('randomness') or {}, seed=content.get('meta', {}).get('seed'))
    if deterministic:
        cfg.randomness = dict(cfg.get('randomness') or {}, deterministic=True)
    if amp:
        _use_amp(cfg)
    return cfg


def _use_amp(cfg: Config) -> None:
    wrapper = 'AmpOptimWrapper' if torch.cuda.is_available() else 'Bf16OptimWrapper'
    stages = [stage for stage in cfg.train_cfg.get('stages', []) if stage.get('optim_wrapper')]
    for holder in (cfg, *stages):
        holder['optim_wrapper'] = dict(holder['optim_wrapper'], type=wrapper)


def build_runner(cfg: Config, trains: bool = False) -> StagedRunner:
    """Build the runner of a prepared config; one that ``trains`` holds the lock of its work dir."""
    register_all_modules()
    return RUNNERS.get(cfg.get('runner_type', 'StagedRunner')).from_cfg(cfg, trains=trains)


def ready_runner(cfg: Config, **kwargs) -> StagedRunner:
    """Build everything a training needs and check it, so that ``train()`` on what is returned starts with a batch.

    Args:
        cfg (Config): The config.
        **kwargs: See :func:`prepare`.

    Raises:
        ValueError, KeyError, TypeError, FileNotFoundError: Something in the config, the data or a file is wrong.
        BlockingIOError: Another process trains in the work dir.
    """
    runner = build_runner(prepare(cfg, **kwargs), trains=True)
    runner.check()
    return runner


def train(cfg: Config, **kwargs) -> dict:
    """Train by a config.

    Args:
        cfg (Config): The config.
        **kwargs: See :func:`prepare`.

    Returns:
        dict: What the run's ``result.json`` holds.

    Raises:
        ValueError, KeyError, TypeError, FileNotFoundError: See :func:`ready_runner`.
        DiskError: A file of the run cannot be written (an ``OSError``).
        FloatingPointError: A loss, a gradient or weights are not finite, or a stage diverged or became worse.
    """
    runner = ready_runner(cfg, **kwargs)
    runner.train()
    return json.loads(Path(runner.work_dir, 'result.json').read_text())


def test(cfg: Config, checkpoint: str, **kwargs) -> dict:
    """Measure the student of a checkpoint on a config's test data.

    Args:
        cfg (Config): The config the checkpoint was trained by.
        checkpoint (str): A checkpoint of the staged loop, at any stage, or a ``student.pth``, also that of a further
            network the run left (``WORK_DIR/full/student.pth``).
        **kwargs: See :func:`prepare`.

    Returns:
        dict: The evaluator's metrics.

    Raises:
        ValueError: The config has no test data, or the checkpoint does not fit it.
        FileNotFoundError: There is no such file.
    """
    cfg = prepare(cfg, **kwargs)
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'{cfg.filename} has no test_dataloader: give it one, with test_cfg and test_evaluator')
    content = load_file(checkpoint)
    runner = build_runner(cfg)
    if is_student(content):
        student = load_student(checkpoint).to(next(runner.bare_model.parameters()).device)
        with runner.bare_model.judging(student):
            return runner.test()
    runner.load_checkpoint(checkpoint)
    return runner.test()
