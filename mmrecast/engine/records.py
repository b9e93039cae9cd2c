"""What is kept and said of a run: one line per stage, digests of what it was made with."""

import hashlib
import json

import torch
from torch import nn


def top1_of(metrics: dict) -> float | None:
    """Return the top-1 accuracy (%) among an evaluator's metrics, None where there is none."""
    return next((float(v) for k, v in metrics.items() if k.split('/')[-1] in ('top1', 'top_1', 'top-1')), None)


def describe_stage(record: dict, stages: int) -> str:
    """Return one line on a finished stage."""
    parts = [f'stage {record["index"] + 1}/{stages} {record["name"]} done: {record["images"]} images']
    parts.append(f'{record["seconds"]:.1f} s')
    if record['relative_error'] is not None:
        before = '' if record['relative_error_start'] is None else f'{record["relative_error_start"]:.4f} → '
        parts.append(f'relative error {before}{record["relative_error"]:.4f}')
    if record['top1'] is not None:
        parts.append(f'top-1 {record["top1"]:.2f} % on {record["val_images"]} images')
    return ', '.join(parts)


def digest(config: object) -> str:
    """Digest part of a config; the order of keys does not count, a dumped config has them sorted."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def digest_tensors(network: nn.Module) -> str:
    """Digest a network's parameters and buffers."""
    sha = hashlib.sha256()
    for name, value in network.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
