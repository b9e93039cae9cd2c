"""What a result was made with: versions of the libraries, and the commit of a checkout."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from mmrecast.version import __version__

LIBRARIES = ('torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'numpy')
"""tuple[str]: Those besides torch whose versions are kept. ``mmcv-lite`` counts as ``mmcv``."""


def versions() -> dict[str, str]:
    """Return the versions of torch, mmrecast and the libraries that results depend on; those that are installed."""
    found = dict(torch=str(torch.__version__), mmrecast=__version__)  # torch has a type of its own for it
    for name in LIBRARIES:
        for distribution in (name, 'mmcv-lite') if name == 'mmcv' else (name,):
            try:
                found[name] = metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that mmrecast runs from, ``-dirty`` behind it where files have changed.

    None where it is installed, or git is not there.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None
    git = ['git', '-C', str(root)]
    try:
        head = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True, timeout=20, check=True)
        changed = ['status', '--porcelain', '--untracked-files=no', '--', 'mmrecast', 'tools', 'configs']
        dirty = subprocess.run([*git, *changed], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ('-dirty' if dirty.stdout.strip() else '')


def made_with() -> dict:
    """Return versions, Python's among them, and the commit where there is one, for a result."""
    return versions() | dict(python=platform.python_version()) | (dict(commit=commit()) if commit() else {})
