"""What a measured latency depends on besides the networks."""

import os

import torch

from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.engine.hooks import machine
from mmrecast.utils.versions import made_with


def conditions(settings: LatencySettings) -> dict:
    """Return the machine, the versions and the load under which these settings are measured.

    Args:
        settings (LatencySettings): How networks are run.
    """
    found = machine() | made_with() | dict(cpu_capability=torch.backends.cpu.get_cpu_capability())
    found['threads'] = settings.threads or found['threads']
    if hasattr(os, 'getloadavg'):
        found['load_average'] = round(os.getloadavg()[0], 2)
    if settings.device != 'cpu':
        found['gpu'] = torch.cuda.get_device_name(settings.device)
        found |= dict(cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
        found['tf32_convolutions'] = torch.backends.cudnn.allow_tf32
    return found


def conditions_line(found: dict) -> str:
    """Return conditions as a line of text; what is not there is left out."""
    return ', '.join(f'{key.replace("_", " ")} {value}' for key, value in found.items() if value is not None)
