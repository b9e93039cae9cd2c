"""Read a config file and what the command line changes in it."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmrecast.utils.names import nearest

RUNNER_KEYS = (*list(inspect.signature(Runner.__init__).parameters)[1:], 'runner_type', 'custom_imports')
"""tuple[str]: What a config may hold for the runner; its other keys are for the config's own use."""
SUFFIXES = ('.py', '.yml', '.yaml', '.json')


def read_config(path: str | Path, options: Mapping[str, object] | None = None) -> Config:
    """Read a config.

    Args:
        path (str | Path): The file.
        options (Mapping, optional): Dotted keys and the values to put there (``--cfg-options``). Defaults to none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or an option's key begins with something the config does not have.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f'{path} is a folder, a config file (*.py) is needed')
    if path.suffix not in SUFFIXES and path.exists():
        raise ValueError(f'{path} is no config: its name must end in {", ".join(SUFFIXES)}')
    if not path.is_file():
        beside = [file.name for file in path.parent.glob('*.py')] if path.parent.is_dir() else []
        raise FileNotFoundError(f'there is no config file {path}{nearest(path.name, beside)}')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: it may raise anything
        raise ValueError(f'config {path} cannot be read: {_reason(error)}') from error
    for key in options or {}:
        first, shown = key.split('.')[0], key if key.isprintable() else repr(key)
        if first not in cfg and first not in RUNNER_KEYS:
            raise ValueError(
                f'--cfg-options {shown}: the config has no {first!r}{nearest(first, [*cfg, *RUNNER_KEYS])}'
            )
    for key, value in (options or {}).items():
        try:
            cfg.merge_from_dict({key: value})
        except Exception as error:  # mmengine walks the key through dicts and lists, whatever stands there
            shown = key if key.isprintable() else repr(key)
            raise ValueError(f'--cfg-options {shown}: {_reason(error)}; the config has no such place') from error
    return cfg


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        elsewhere = f' of {error.filename}' if error.filename not in (None, '<unknown>') else ''
        return f'{error.msg}, line {error.lineno}{elsewhere}'
    while isinstance(error, ImportError) and error.__context__ is not None:  # mmengine's own hides what is missing
        error = error.__context__
    text = ' '.join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        text += '; a module of yours needs its folder on PYTHONPATH'
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return text if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: {text}'
