"""A network as its training begins."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from mmrecast.surgery.student_file import Origin, build_source, is_weight_file
from mmrecast.utils.checkpoint import load_file


def start_network(source: Mapping | str | Path | nn.Module) -> tuple[nn.Module, Origin]:
    """Return a network, initialised as its own library begins with it, and where it comes from.

    Args:
        source (Mapping | str | Path | nn.Module): As for ``surgery.student_file.build_source``. A module and a
            ``student.pth`` keep their weights; a recipe's or a narrowed student has begun already.

    Raises:
        FileNotFoundError, ValueError, TypeError, KeyError: As ``build_source``.
    """
    network, constructor = build_source(source)
    begun = isinstance(source, nn.Module) or is_weight_file(source) or hasattr(network, 'origin')
    if isinstance(network, BaseModule) and not begun and not network.is_init:
        for module in network.modules():
            check_pretrained(getattr(module, 'init_cfg', None))
        with _to_file_only():
            network.init_weights()
    return network, getattr(network, 'origin', None) or Origin(constructor)


def check_pretrained(init_cfg: object) -> None:
    """Read the local files of weights that an ``init_cfg`` names, for mmengine's own reading tells faults in its way.

    Raises:
        FileNotFoundError, ValueError: As ``utils.checkpoint.load_file``.
    """
    for one in init_cfg if isinstance(init_cfg, list | tuple) else [init_cfg]:
        file = one.get('checkpoint') if isinstance(one, Mapping) else None
        if isinstance(file, str) and '://' not in file:
            load_file(file)


@contextmanager
def _to_file_only() -> Iterator[None]:
    """Keep mmengine from printing a line per parameter where no log file takes them."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    if not any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
