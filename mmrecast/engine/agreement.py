"""Whether all processes of a run are about to do the same: the same code, config, data, checkpoint.

Processes that differ would train something that nobody has written down, or wait for each other for ever. Each tells
all others what it has, before anything is built and again before the first batch; the first difference ends the run.
"""

import platform
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import BaseLoop
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mmrecast.engine.checkpoints import random_state, seed_everything, set_random_state
from mmrecast.utils.digests import digest, digest_sources, digest_tensors
from mmrecast.utils.versions import versions

IMAGES = 16  # per data set, evenly spaced; a data set with a ``digest()`` is compared as a whole
# What may differ between machines: where things lie; what lies there is compared by itself.
PLACES = ('work_dir', 'data_root', 'load_from', 'experiment_name', 'filename', 'launcher')


def check_agreement(gather: Callable[[dict], list[dict]], facts: dict) -> None:
    """Compare what every process has with what the first one has.

    Args:
        gather (Callable): Gives what every process hands to it, in the order of ranks.
        facts (dict): What this process has, by the name that a user knows it by.

    Raises:
        ValueError: Processes differ; the message says which, in what.
    """
    first, *others = gather(facts)
    for rank, own in enumerate(others, 1):
        for name in dict.fromkeys([*first, *own]):
            here, there = first.get(name, 'not given'), own.get(name, 'not given')
            if here != there:
                raise ValueError(
                    f'all processes must do the same, but rank {rank} has another {name} than rank 0: '
                    f'{there!r}, rank 0 has {here!r}'
                )


def before_building(cfg: Config) -> dict:
    """Return what can be told before anything is built: the code, the versions and every entry of the config.

    Args:
        cfg (Config): The run's.
    """
    imported = (cfg.get('custom_imports') or {}).get('imports') or []
    imported = [imported] if isinstance(imported, str) else list(imported)
    facts: dict = dict(python=platform.python_version()) | versions()
    facts |= {f'code of {name}': digest_sources(name) for name in ('mmrecast', *imported)}
    plain = cfg.to_dict() if isinstance(cfg, Config) else dict(cfg)
    return facts | {f'config entry {key}': value for key, value in _flat(plain) if key.split('.')[-1] not in PLACES}


def before_training(fingerprint: dict, loops: Mapping[str, BaseLoop | None]) -> dict:
    """Return what can be told when everything is built.

    Args:
        fingerprint (dict): What a checkpoint of this run must share with it.
        loops (dict): Those of the run, by what their data are for.
    """
    facts = dict(_flat(fingerprint))
    for name, loop in loops.items():
        told = {} if loop is None else _data(loop.dataloader.dataset)
        facts |= {f'{key} of the {name} data': value for key, value in told.items()}
    return facts


def of_checkpoint(content: dict) -> dict:
    """Return what can be told of the checkpoint that a run goes on from."""
    staged = content['staged']
    where = f'iteration {staged["iter"]}, {staged["stage"]} stages done'
    return dict(checkpoint=where) | {'weights in the checkpoint': digest_tensors(content['state_dict'])}


def _data(dataset: Dataset) -> dict:
    facts = dict(type=type(dataset).__name__, classes=digest((getattr(dataset, 'metainfo', None) or {}).get('classes')))
    if isinstance(dataset, IterableDataset):  # it may not begin twice
        return facts
    facts['number of images'] = len(dataset)
    whole = getattr(dataset, 'digest', None)
    return facts | dict(content=whole() if callable(whole) else _some(dataset))


def _some(dataset: Sequence) -> str | None:
    """Digest evenly spaced items; None where they come out otherwise when they are read again with the same seed."""
    count, state = min(IMAGES, len(dataset)), random_state()
    try:
        read = []
        for _ in range(2):
            seed_everything(0)
            read.append(digest([_plain(dataset[i * len(dataset) // count]) for i in range(count)]))
    finally:
        set_random_state(state)
    return read[0] if read[0] == read[1] else None


def _plain(item: object) -> object:
    """Return an item of a data set with its tensors and arrays as digests."""
    if isinstance(item, BaseDataElement):
        item = item.to_dict()
    if isinstance(item, Mapping):  # paths differ from machine to machine
        return {str(key): _plain(value) for key, value in item.items() if not str(key).endswith('path')}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, Tensor):
        return digest_tensors(dict(item=item))
    if hasattr(item, '__array__'):  # arrays, and images of PIL
        return digest_tensors(dict(item=torch.as_tensor(item.__array__())))
    return item if isinstance(item, str | int | float | None) else type(item).__name__


def _flat(value: object, name: str = '') -> list[tuple[str, object]]:
    """Return the leaves of nested dicts and lists by their dotted names, as a config's options name them."""
    if isinstance(value, Mapping) and value:
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and value:
        pairs = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return [(name, value if isinstance(value, str | int | float | None) else _text(value))]
    return [leaf for key, inner in pairs for leaf in _flat(inner, f'{name}.{key}' if name else key)]


def _text(value: object) -> str:
    return re.sub(r' at 0x[0-9a-f]+', '', repr(value))
