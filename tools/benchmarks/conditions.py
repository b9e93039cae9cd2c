"""Under what conditions something is timed: what malloc does, the machine, the versions, the command."""

import ctypes
import os
import shlex
import sys
from collections.abc import Sequence
from statistics import median

from mmrecast.analysis.latency import outer_deciles
from mmrecast.engine.hooks import machine
from mmrecast.utils.versions import made_with


def keep_memory() -> bool:
    """Let glibc's malloc keep what is freed; return whether it does (there are others)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(mmap_max, 0))


def conditions() -> dict:
    """Return the command, the machine, its load and the versions of what runs."""
    threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
    return dict(
        command=f'{threads}python {shlex.join(sys.argv)}',
        machine=machine(),
        versions=made_with(),
        load_average=os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,
    )


def spread(values: Sequence[float]) -> list[float]:
    """Return the median and the outer deciles."""
    return [round(v, 4) for v in (median(values), *outer_deciles(values))]
