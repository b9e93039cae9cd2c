"""Images per second of one run on one and on several processes, each computing with one thread."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean

from mmengine.config import Config
from step_times import FILE

from mmrecast.utils.config_file import read_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/distill/recasting/recasting_resnet20_convnet_cifar10-short.py'


def efficiency(config: str | Path, batch_size: int, iters: int, processes: int = 2) -> dict:
    """Train by a config on random images, once in one process and once in several that share the same batch.

    Args:
        config (str | Path): A recasting of images of known shape.
        batch_size (int): Images of a step of all processes together.
        iters (int): Iterations per stage.
        processes (int): How many. Defaults to 2.

    Returns:
        dict: Per kind of stage, ``images_per_second`` on one and on several processes and ``efficiency``, the second
        over ``processes`` times the first.

    Raises:
        ValueError: The batch cannot be shared out evenly.
        RuntimeError: A run failed.
    """
    if batch_size % processes:
        raise ValueError(f'a batch of {batch_size} cannot be shared out evenly to {processes} processes')
    rates = {}
    for count in (1, processes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'steps.py')
            shared_config(config, batch_size // count, batch_size * iters, iters).dump(path)
            rates[count] = _rates(path, count, Path(folder, 'run'))
    found = {}
    for kind, one in rates[1].items():
        several = rates[processes][kind]
        shares = dict(one=round(one, 1), several=round(several, 1))
        found[kind] = dict(images_per_second=shares, efficiency=round(several / (processes * one), 3))
    return dict(config=Path(config).name, batch_size=batch_size, iters=iters, processes=processes, kinds=found)


def shared_config(config: str | Path, batch_size: int, images: int, iters: int) -> Config:
    """Return a recasting's config with random images, ``iters`` per stage, and nothing beside the steps."""
    cfg = read_config(config)
    cfg.model.update(teacher_ckpt=None, start='xavier')
    data = dict(shape=cfg.data_preprocessor.input_shape, num_classes=cfg.model.teacher.head.num_classes)
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.dataset = dict(type='ImagesToTime', num_images=images, **data)
    for name in ('val', 'test'):
        for key in (f'{name}_dataloader', f'{name}_cfg', f'{name}_evaluator'):
            cfg[key] = None
    stages = [dict(kind='recast', blocks='all', iters=iters), dict(kind='finetune', iters=iters)]
    cfg.train_cfg = dict(type='StagedLoop', stages=stages, probe_images=16)
    cfg.custom_hooks, cfg.log_level = [dict(type='StepTimes')], 'WARNING'
    cfg.custom_imports = dict(imports=['step_turns', 'step_times'], allow_failed_imports=False)
    return cfg


def _rates(config: Path, processes: int, work_dir: Path) -> dict[str, float]:
    """Return the images per second of each kind of stage; every stage has as many images."""
    command: Sequence[str] = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
    if processes > 1:
        command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), str(processes)]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    paths = [str(Path(__file__).parent), str(ROOT), os.environ.get('PYTHONPATH', '')]
    own = dict(PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    environment = os.environ | own | dict(PYTHONPATH=os.pathsep.join(filter(None, paths)))
    done = subprocess.run(
        [*command, '--work-dir', str(work_dir)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise RuntimeError(f'the run on {processes} process(es) failed: {last}')
    records = json.loads((work_dir / FILE).read_text())
    kinds = dict.fromkeys(record['kind'] for record in records)
    return {kind: harmonic_mean(r['images_per_second'] for r in records if r['kind'] == kind) for kind in kinds}
