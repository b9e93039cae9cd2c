"""How busy the GPU is, sampled beside the work."""

import subprocess
import threading
from collections.abc import Callable
from statistics import mean

import torch

INTERVAL = 0.2  # seconds; the driver itself averages over 1/6 s at least


class GpuUse:
    """The GPU's utilisation in per cent, between `begin` and `mean`; None where it cannot be asked.

    It is NVML's (the package nvidia-ml-py), else that of ``nvidia-smi``: the share of time in which some kernel ran.

    Args:
        ask (Callable, optional): Gives it in per cent. Defaults to None: as said.
    """

    def __init__(self, ask: Callable[[], float] | None = None) -> None:
        self._ask = ask or (_way_to_ask() if torch.cuda.is_available() else None)
        self._samples: list[float] = []
        self._running = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Forget former samples and take new ones from now on."""
        self._samples = []
        if self._ask is not None and self._thread is None:
            self._running.set()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()

    def mean(self) -> float | None:
        """Return the mean since `begin`, None without a sample."""
        return round(mean(self._samples), 1) if self._samples else None

    def end(self) -> None:
        """Sample no more."""
        self._running.clear()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _sample(self) -> None:
        wait = threading.Event()
        while self._running.is_set():
            value = self._ask()
            self._samples.append(value)
            wait.wait(INTERVAL)


def _way_to_ask() -> Callable[[], float] | None:
    """Return the first way that answers."""
    device = f'GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}'
    command = ['nvidia-smi', f'--id={device}', '--query-gpu=utilization.gpu', '--format=csv,noheader,nounits']

    def smi() -> float:
        return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout)

    for ask in (torch.cuda.utilization, smi):
        try:
            ask()
        except (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError):
            continue
        return ask
    return None
