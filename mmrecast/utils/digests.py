"""Digests of what a run was made with."""

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn


def digest(config: object) -> str:
    """Digest part of a config; the order of keys does not count, a dumped config has them sorted."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def digest_tensors(network: nn.Module | Mapping[str, Tensor]) -> str:
    """Digest a network's parameters and buffers, or other tensors by name."""
    sha = hashlib.sha256()
    for name, value in (network.state_dict() if isinstance(network, nn.Module) else network).items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def digest_sources(module: str) -> str | None:
    """Digest the source of a module, or of every module of a package.

    Args:
        module (str): Its dotted name.

    Returns:
        str | None: None where there is no source to read.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    files = sorted(file.parent.rglob('*.py')) if spec.submodule_search_locations else [file]
    sha = hashlib.sha256()
    for path in files:
        sha.update(f'{path.relative_to(file.parent).as_posix()}\0'.encode() + path.read_bytes())
    return sha.hexdigest()[:16]
