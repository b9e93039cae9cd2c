"""Digests of what a run was made with."""

import hashlib
import json
from collections.abc import Mapping

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
