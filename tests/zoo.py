"""Runs of the zoo's leaves that keep every loss, for tests that look at each method's own term."""

import copy
from collections import defaultdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmrecast.apis import train
from mmrecast.registry import HOOKS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'distill'


def leaves(pair: str) -> dict[str, Path]:
    """Return the leaf of every method for a pair, by the method's name."""
    found = sorted(FOLDER.glob(f'[!_]*/*_{pair}.py'))
    return {path.stem.removesuffix(f'_{pair}'): path for path in found}


@HOOKS.register_module()
class KeepEveryLoss(Hook):
    """Keep every loss of every step, by stage and name."""

    priority = 'LOWEST'
    losses: dict = defaultdict(list)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        for name, value in outputs.items():
            self.losses[runner.train_loop.stage.name, name].append(float(value))


def run(leaf: Path, work_dir: Path, changes: dict | None = None, **kwargs) -> tuple[dict, dict]:
    """Train a leaf, each link at its full weight from the start, and return its result and its losses."""
    cfg = Config.fromfile(leaf)
    cfg.merge_from_dict(changes or {})
    for link in cfg.model.get('links', []):
        link.pop('warmup', None)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='KeepEveryLoss')]
    cfg.log_level = 'WARNING'
    KeepEveryLoss.losses = defaultdict(list)
    result = train(cfg, work_dir=str(work_dir), **kwargs)
    return result, copy.deepcopy(KeepEveryLoss.losses)


def own_terms(losses: dict) -> dict[tuple, list[float]]:
    """Return the losses that are a method's own: not the sum, not the one against the labels."""
    return {key: values for key, values in losses.items() if key[1].startswith('loss_') and key[1] != 'loss_task'}


def check_own_terms(losses: dict, share: float = 0.2) -> None:
    """Check that every loss is finite and that each of a method's own terms ends lower than it began.

    A generator's terms are left out: it plays against the student, and what one gains the other loses.
    """
    for key, values in losses.items():
        assert torch.tensor(values).isfinite().all(), f'{key} is not finite: {values}'
    for key, values in own_terms(losses).items():
        if key[1].startswith('loss_generator'):
            continue
        n = max(int(len(values) * share), 1)
        first, last = sum(values[:n]) / n, sum(values[-n:]) / n
        assert last < first, f'{key} went from {first:.4g} to {last:.4g}'


def check_common_weights(losses: dict) -> None:
    """Check the losses of a network and a narrow one that train together.

    All are finite; the labels' falls; the divergence of the narrow one, which begins at weight 0, rises and falls again
    in the stage that trains; a search pays for its widths.
    """
    for key, values in losses.items():
        assert torch.tensor(values).isfinite().all(), f'{key} is not finite: {values}'
    for (stage, name), values in losses.items():
        last = sum(values[-10:]) / 10
        if name == 'loss_task':
            assert last < values[0], f'{name} of {stage} went from {values[0]:.4g} to {last:.4g}'
        elif name == 'loss_kd' and stage == 'train':
            assert values[0] < 0.01 < last < max(values) / 2, f'{name} went over {max(values):.4g} to {last:.4g}'
        elif name == 'loss_cost':
            assert stage == 'search' and min(values) > 0
    assert {name for stage, name in losses if stage == 'train'} == {'loss', 'loss_task', 'loss_kd'}
