"""The config of a plan: the one that it was made for, with the recipe, stages and hints that the plan leaves."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from mmrecast.surgery.chain import match
from mmrecast.utils.config_file import read_config


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
    """Return the text of a config that goes on ``base`` and is ``cfg`` but for what the plan decides.

    Its recasting begins by closed forms, by which the plan was priced, whatever ``base`` begins with.

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
    planned = copy.deepcopy(cfg.to_dict())
    model = planned['model']
    model['recipe'] = [copy.deepcopy(dict(rule)) for rule in recipe]
    if trained or model.get('trained_blocks'):
        model['trained_blocks'] = {path: os.path.abspath(file) for path, file in trained.items()} or None
    if model.get('hints') is not None:
        model['hints'] = hints_for(model['hints'], widths_kept, paths)
    _begin_by_closed_forms(model)
    planned['train_cfg']['stages'] = stages_for(planned['train_cfg']['stages'], [rule['source'] for rule in recipe])
    changes = dict(_base_=os.path.relpath(base, folder)) | differences(read_config(base).to_dict(), planned)
    return f'# {about}\n{Config(changes).pretty_text}'


def _begin_by_closed_forms(model: dict) -> None:
    """Let the recasting begin as the plan was priced."""
    start = model.get('start')
    if (start.get('type') if isinstance(start, dict) else start) != 'closed_form':
        model['start'] = 'closed_form'
        if model.get('next_block') == 'fresh':
            model['next_block'] = None


def differences(base: Mapping, wanted: Mapping) -> dict:
    """Return what a config that goes on ``base`` has to hold to be read as ``wanted``."""
    if set(base) - set(wanted):
        return dict(wanted, _delete_=True)
    found = {}
    for key, value in wanted.items():
        if key in base and base[key] == value:
            continue
        if not isinstance(value, Mapping) or key not in base:
            found[key] = value
        elif isinstance(base[key], Mapping):
            found[key] = differences(base[key], value)
        else:  # mmengine merges a dict with a dict alone
            found[key] = dict(value, _delete_=True)
    return found


def stages_for(stages: Sequence[Mapping], sources: Sequence[str]) -> list[dict]:
    """Return a schedule for other sources: entries whose patterns select none of them go, others keep what selects.

    Entries for one block each, without a pattern, become one for all that is recast, as the first of them is; so do
    entries with patterns where they leave a source out.

    Args:
        stages (Sequence[Mapping]): Entries of a schedule.
        sources (Sequence[str]): The blocks that are recast, in their order.
    """
    plain = [copy.deepcopy(dict(stage)) for stage in stages]
    recast = [stage for stage in plain if stage['kind'] == 'recast']
    left_out = set(sources) - {source for stage in recast for source in _selected(stage, sources)}
    if recast and (left_out or any(stage.get('blocks') is None for stage in recast)):
        first = plain.index(recast[0])
        plain = [stage for i, stage in enumerate(plain) if i <= first or stage['kind'] != 'recast']
        plain[first] |= dict(blocks='all')
    found = []
    for stage in plain:
        if stage['kind'] in ('recast', 'align') and stage.get('blocks') not in (None, 'all'):
            stage['blocks'] = [pattern for pattern in _patterns(stage) if _selects(pattern, sources)]
            if not stage['blocks']:
                continue
        found.append(stage)
    return found


def hints_for(hints: Mapping, widths_kept: Sequence[str], paths: Sequence[str]) -> dict | None:
    """Return hints at those of their blocks whose width is kept, None where there is none: nothing to compare with."""
    named = [hints['blocks']] if isinstance(hints['blocks'], str) else hints['blocks']
    left = [path for pattern in named for path in match(pattern, list(paths)) if path in widths_kept]
    return dict(hints, blocks=left) if left else None


def _patterns(stage: Mapping) -> list[str]:
    return [stage['blocks']] if isinstance(stage['blocks'], str) else list(stage['blocks'])


def _selected(stage: Mapping, sources: Sequence[str]) -> list[str]:
    """Return what a stage with patterns selects of the sources."""
    if stage.get('blocks') in (None, 'all'):
        return list(sources)
    return [
        path for pattern in _patterns(stage) if _selects(pattern, sources) for path in match(pattern, list(sources))
    ]


def _selects(pattern: str, sources: Sequence[str]) -> bool:
    try:
        return bool(match(pattern, list(sources)))
    except ValueError:
        return False
