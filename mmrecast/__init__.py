"""mmrecast: recast a trained network block by block into a faster one, and distil it, on MMEngine."""

import re
from importlib import metadata

from mmrecast.utils import compat
from mmrecast.version import REQUIREMENTS, __version__

__all__ = ['__version__']


def _release(text: str) -> tuple[int, ...]:
    """Return the release numbers of a version without trailing zeros: ``'2.10.0+cpu'`` gives ``(2, 10)``."""
    numbers = [int(n) for n in re.match(r'[\d.]*\d|', text)[0].split('.') if n]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _installed(name: str) -> str | None:
    """Return the installed version of a library, or None; ``mmcv-lite`` counts as mmcv."""
    for distribution in (name, 'mmcv-lite') if name == 'mmcv' else (name,):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _check_versions() -> None:
    """Raise ImportError, in one line, at the first library that is absent or outside its range."""
    for name, wanted in REQUIREMENTS.items():
        found = _installed(name)
        if found is not None:
            have = _release(found)
            bounds = re.findall(r'(>=|<)([\d.]+)', wanted)
            if all(have >= _release(v) if op == '>=' else have < _release(v) for op, v in bounds):
                continue
        also = ' (or mmcv-lite of that version)' if name == 'mmcv' else ''
        was = f'found {name} {found}' if found else f'found no {name}'
        raise ImportError(f'mmrecast {__version__} needs {name}{wanted}{also}, {was}')


_check_versions()
compat.mend()
