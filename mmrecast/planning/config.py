"""The config of a plan: the one that it was made for, with the recipe, stages and hints that the plan leaves."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from mmrecast.surgery.chain import match


def config_text(
    cfg: Config,
    base: str | Path,
    folder: str | Path,
    recipe: Sequence[Mapping],
    widths_kept: Sequence[str],
    paths: Sequence[str],
    trained: Mapping[str, str],
    about: str,
) -> str:
    """Return the text of a config that goes on ``base``.

    Args:
        cfg (Config): ``base`` as it was read, options of the command line included.
        base (str | Path): The config that the plan was made for.
        folder (str | Path): Where the text is to lie.
        recipe (Sequence[Mapping]): The plan's rules, one per block that is recast.
        widths_kept (Sequence[str]): Blocks whose output has the teacher's width.
        paths (Sequence[str]): All blocks of the chain.
        trained (Mapping[str, str]): Files of blocks that were trained alone, by path; they start the recasting.
        about (str): A line on the plan.
    """
    model: dict = dict(recipe=[copy.deepcopy(dict(rule)) for rule in recipe])
    if trained:
        model['trained_blocks'] = {path: os.path.abspath(file) for path, file in trained.items()}
    if cfg.model.get('teacher_ckpt') is not None:
        model['teacher_ckpt'] = cfg.model.teacher_ckpt
    if cfg.model.get('hints') is not None:
        model['hints'] = hints_for(cfg.model.hints, widths_kept, paths)
    stages = stages_for(cfg.train_cfg.stages, [rule['source'] for rule in recipe])
    changes = Config(dict(_base_=os.path.relpath(base, folder), model=model, train_cfg=dict(stages=stages)))
    return f'# {about}\n{changes.pretty_text}'


def stages_for(stages: Sequence[Mapping], sources: Sequence[str]) -> list[dict]:
    """Return a schedule for other sources: entries whose patterns select none of them go, others keep what selects.

    Entries for one block each, without a pattern, become one for all that is recast, as the first of them is.

    Args:
        stages (Sequence[Mapping]): Entries of a schedule.
        sources (Sequence[str]): The blocks that are recast, in their order.
    """
    plain = [copy.deepcopy(dict(stage)) for stage in stages]
    single = [stage for stage in plain if stage['kind'] == 'recast' and stage.get('blocks') is None]
    if single:
        first = plain.index(single[0])
        before = [stage for stage in plain[:first] if stage['kind'] != 'recast']
        behind = [stage for stage in plain[first:] if stage['kind'] != 'recast']
        plain = [*before, single[0] | dict(blocks='all'), *behind]
    found = []
    for stage in plain:
        blocks = stage.get('blocks')
        if stage['kind'] in ('recast', 'align') and blocks != 'all':
            named = [blocks] if isinstance(blocks, str) else blocks
            stage['blocks'] = [pattern for pattern in named if _selects(pattern, sources)]
            if not stage['blocks']:
                continue
        found.append(stage)
    return found


def hints_for(hints: Mapping, widths_kept: Sequence[str], paths: Sequence[str]) -> dict | None:
    """Return hints at those of their blocks whose width is kept, None where there is none: nothing to compare with."""
    named = [hints['blocks']] if isinstance(hints['blocks'], str) else hints['blocks']
    left = [path for pattern in named for path in match(pattern, list(paths)) if path in widths_kept]
    return dict(hints, blocks=left) if left else None


def _selects(pattern: str, sources: Sequence[str]) -> bool:
    try:
        return bool(match(pattern, list(sources)))
    except ValueError:
        return False
