"""The runs that `gpu_recast.py` compares: one recasting, computed in several ways."""

import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean

import torch
from mmengine.config import Config
from step_times import FILE

from mmrecast.apis import train
from mmrecast.registry import MODELS
from mmrecast.surgery.chain import match
from mmrecast.utils.checkpoint import write_json

PARTS = ('whole', 'precision', 'form')
WRAPPERS = dict(fp32='OptimWrapper', tf32='OptimWrapper', bf16='Bf16OptimWrapper', fp16='AmpOptimWrapper')
KEPT = 'run.json'  # in the work dir of a finished run


@dataclass(frozen=True)
class Form:
    """A way to compute a run.

    Args:
        name (str): For people.
        part (str): Which of ``PARTS`` it belongs to.
        precision (str, optional): One of ``WRAPPERS``. Defaults to None: as the config has it.
        channels_last (bool, optional): Whether images have their channels innermost in memory. Defaults to None: as the
            config has it.
    """

    name: str
    part: str
    precision: str | None = None
    channels_last: bool | None = None

    def left_out(self) -> str | None:
        """Return why it cannot be run here, None where it can."""
        if self.precision in ('tf32', 'fp16') and not torch.cuda.is_available():
            return f'{self.precision} needs a CUDA GPU'
        return None


FORMS = (
    Form('as configured', 'whole'),
    *(Form(name, 'precision', name) for name in WRAPPERS),
    *(Form(f'{p}, channels first', 'form', p, channels_last=False) for p in ('fp32', 'bf16')),
    *(Form(f'{p}, channels last', 'form', p, channels_last=True) for p in ('fp32', 'bf16')),
)


def settle(
    cfg: Config, teacher: str | None, seed: int, budget: int | None, images: int | None, stages: int | None
) -> Config:
    """Return a recasting's config, cut down as asked, whose student is judged before and after fine-tuning.

    Args:
        cfg (Config): The config.
        teacher (str, optional): File with the teacher's weights; None for the config's.
        seed (int): Of the run.
        budget (int, optional): Iterations of all stages, to which the schedule is scaled.
        images (int, optional): Training images, and images for validation at most.
        stages (int, optional): How many of the first blocks are recast.

    Raises:
        ValueError: The config is no recasting, or has fewer blocks than ``stages``.
    """
    cfg = copy.deepcopy(cfg)
    if cfg.model.type != 'Recasting':
        raise ValueError(f'{cfg.filename} trains {cfg.model.type}, a Recasting is needed')
    if teacher is not None:
        cfg.model.teacher_ckpt = teacher
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    shape = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    plan = MODELS.build(dict(cfg.model, teacher_ckpt=None, data_preprocessor=shape)).plan
    paths = [plan.entries[step].path for step in plan.steps]
    if stages is not None:
        if stages > len(paths):
            raise ValueError(f'--stages {stages}, but {cfg.filename} recasts {len(paths)} blocks')
        paths = paths[:stages]
        cfg.model.recipe = narrowed(cfg.model.recipe, [entry.path for entry in plan.entries], paths)
    if images is not None:
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[name].dataset.num_samples = min(images, cfg[name].dataset.get('num_samples') or images)
    if budget is not None:
        cfg.train_cfg.budget = budget
    cfg.train_cfg.stages = judged_stages(cfg.train_cfg.stages, paths)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='StepTimes')]
    return cfg


def narrowed(recipe: list[dict], known: list[str], kept: list[str]) -> list[dict]:
    """Return a recipe's rules for the blocks ``kept`` of those ``known`` alone."""
    rules = []
    for rule in recipe:
        patterns = [rule['source']] if isinstance(rule['source'], str) else rule['source']
        sources = [path for pattern in patterns for path in match(pattern, known) if path in kept]
        rules += [dict(rule, source=sources)] if sources else []
    return rules


def judged_stages(stages: list[dict], paths: list[str]) -> list[dict]:
    """Split the entry for all blocks, so that of the recasting stages the last alone is followed by a validation."""
    entry, *rest = stages
    if entry['kind'] != 'recast' or entry.get('blocks', 'all') != 'all':
        return stages
    parts = [dict(entry, blocks=paths[:-1], val=False)] if len(paths) > 1 else []
    return [*parts, dict(entry, blocks=paths[-1:], val=True), *rest]


def run_form(cfg: Config, form: Form, work_dir: Path, settings: dict, data_root: str | None) -> dict:
    """Run a form, or read what it came to when it was run with the same settings.

    Args:
        cfg (Config): From `settle`.
        form (Form): How to compute.
        work_dir (Path): Of all forms.
        settings (dict): What a finished run must have been run with to be read again.
        data_root (str, optional): Where the data lies.

    Returns:
        dict: ``name``, ``left_out`` (a reason, or None) and, unless it was left out, what the run took and came to.
    """
    reason = form.left_out()
    if reason is not None:
        return dict(name=form.name, left_out=reason)
    folder = work_dir / form.name.replace(', ', '_').replace(' ', '_')
    kept = json.loads((folder / KEPT).read_text()) if (folder / KEPT).is_file() else {}
    if kept.get('settings') == settings:
        return kept['run']
    begun = time.perf_counter()
    result = train(configured(cfg, form), work_dir=str(folder), data_root=data_root)
    minutes = (time.perf_counter() - begun) / 60
    run = summary(form.name, result, json.loads((folder / FILE).read_text()), minutes)
    write_json(dict(settings=settings, run=run), folder / KEPT)
    return run


def configured(cfg: Config, form: Form) -> Config:
    """Return the config of a form."""
    cfg = copy.deepcopy(cfg)
    if form.precision is not None:
        for holder in (cfg, *(stage for stage in cfg.train_cfg.stages if stage.get('optim_wrapper'))):
            holder['optim_wrapper'] = dict(holder['optim_wrapper'], type=WRAPPERS[form.precision])
    if form.channels_last is not None:
        holder = cfg.model if cfg.model.get('data_preprocessor') else cfg
        holder.data_preprocessor.channels_last = form.channels_last
    if form.precision == 'tf32':
        cfg.env_cfg = dict(cfg.get('env_cfg') or {}, tf32=True)
    return cfg


def summary(name: str, result: dict, times: list[dict], minutes: float) -> dict:
    """Return what a run took and came to.

    Args:
        name (str): Of its form.
        result (dict): Its ``result.json``.
        times (list[dict]): Its ``step_times.json``.
        minutes (float): All of it took, validation and writing included.
    """
    stages = [
        {key: finite(record[key]) for key in ('name', 'iters', 'seconds', 'relative_error_start', 'relative_error')}
        | {key: time[key] for key in ('images_per_second', 'gpu_utilisation', 'peak_bytes')}
        for record, time in zip(result['stages'], times, strict=True)
    ]
    recast = [record for record in result['stages'] if record['kind'] == 'recast']
    numbers = [record[key] for record in result['stages'] for key in ('loss', 'relative_error')]
    rates = [time['images_per_second'] for time in times if time['images_per_second']]
    use = [time['gpu_utilisation'] for time in times if time['gpu_utilisation'] is not None]
    peaks = [time['peak_bytes'] for time in times if time['peak_bytes'] is not None]
    return dict(
        name=name, left_out=None, minutes=round(minutes, 3), training_minutes=round(result['seconds'] / 60, 3),
        images=result['images'] + sum(record['start_images'] for record in result['stages']),
        images_per_second=round(harmonic_mean(rates), 1) if rates else None,
        gpu_utilisation=round(sum(use) / len(use), 1) if use else None,
        peak_mebibytes=round(max(peaks) / 2**20, 1) if peaks else None,
        relative_error=finite(recast[-1]['relative_error']), top1_recast=recast[-1]['top1'], top1=result['top1'],
        teacher_top1=result['teacher'] and result['teacher']['top1'],
        finite=all(math.isfinite(number) for number in numbers if number is not None), stages=stages,
    )  # fmt: skip


def finite(value: object) -> object:
    """Return a value, None for a number that JSON has no form for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
