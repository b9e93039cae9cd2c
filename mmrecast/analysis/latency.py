"""Measure how long networks take for a batch, side by side in one process."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import nn

try:
    import resource
except ImportError:  # not on Windows
    resource = None

PATIENCE = 0.1  # seconds in which an interrupted pass is repeated; what is long itself is interrupted every time


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass of a batch.

    Args:
        median_ms (float): Median over the rounds, in milliseconds.
        p10_ms (float): 10th percentile.
        p90_ms (float): 90th percentile.
        ratio (float): Speed-up over the first network: median over the rounds of first's time / this one's
            time.
        batch_size (int): Images in the batch.
        device (str): Where it ran.
        threads (int): PyTorch's threads on the CPU.
        repeats (int): Measured rounds.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    ratio: float
    batch_size: int = 1
    device: str = 'cpu'
    threads: int = 1
    repeats: int = 0

    @property
    def ms_per_image(self) -> float:
        """Median time divided by the batch size."""
        return self.median_ms / self.batch_size


def compare_latency(
    networks: dict[str, nn.Module],
    input_shape: Sequence[int],
    batch_size: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    device: str = 'cpu',
    threads: int | None = None,
) -> dict[str, Latency]:
    """Time the networks in turns, so that what slows the machine for a while slows all of them.

    A round runs every network once; each round begins with another one. A pass that another process interrupted
    is repeated, for at most a tenth of a second. The networks are left as they were:
    one that lives on another device is copied.

    Args:
        networks (dict[str, nn.Module]): By name; the first is what the others are compared to.
        input_shape (Sequence[int]): ``(C, H, W)`` of one image.
        batch_size (int): Images per forward pass. Defaults to 1.
        repeats (int): Measured rounds. Defaults to 30.
        warmup (int): Rounds that are not measured. Defaults to 5.
        device (str): ``'cpu'``, ``'cuda'``, ``'cuda:1'``. Defaults to ``'cpu'``.
        threads (int, optional): PyTorch's threads while measuring. Defaults to None: as they are set.

    Raises:
        ValueError: No networks, a count below one (below zero for ``warmup``), or a device that is not there.
    """
    if not networks:
        raise ValueError('compare_latency needs at least one network, got none')
    for name, value, least in (('batch_size', batch_size, 1), ('repeats', repeats, 1), ('warmup', warmup, 0)):
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')
    if threads is not None and threads < 1:
        raise ValueError(f'threads must be at least 1, got {threads}')
    if torch.device(device).type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'device {device!r} was asked for, but PyTorch sees no GPU here; use device="cpu"')
    images = torch.rand(batch_size, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    placed = {name: _on(network, images.device) for name, network in networks.items()}
    with _evaluating(placed.values()), _threads(threads) as used, torch.inference_mode():
        times = _rounds(placed, images, warmup, repeats)
    first = times[next(iter(times))]
    return {
        name: Latency(
            median(own),
            *_outer_deciles(own),
            ratio=median(f / t for f, t in zip(first, own, strict=True)),
            batch_size=batch_size,
            device=_device_name(images.device),
            threads=used,
            repeats=repeats,
        )
        for name, own in times.items()
    }


def _rounds(networks: dict[str, nn.Module], images: torch.Tensor, warmup: int, repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of every measured round by network."""
    wait: Callable[[], None] = (lambda: torch.cuda.synchronize(images.device)) if images.is_cuda else (lambda: None)
    names = list(networks)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warmup + repeats):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            ms = _undisturbed_ms(networks[name], images, wait)
            if number >= warmup:
                times[name].append(ms)
    return times


def _undisturbed_ms(network: nn.Module, images: torch.Tensor, wait: Callable[[], None]) -> float:
    """Return the milliseconds of a pass; one in which another process took the processor is repeated.

    Longer passes are interrupted more often: on a busy machine they would seem slower than they are, and by more.
    """
    shortest, begin = float('inf'), time.perf_counter()
    while True:
        before = _interruptions()
        wait()
        start = time.perf_counter()
        network(images)
        wait()
        now = time.perf_counter()
        shortest = min(shortest, (now - start) * 1000)
        if _interruptions() == before or now - begin >= PATIENCE:
            return shortest


def _interruptions() -> int:
    """Return how often the system has taken the processor from this process; 0 where it does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _outer_deciles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    deciles = quantiles(values, n=10, method='inclusive')
    return deciles[0], deciles[-1]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type


def _on(network: nn.Module, device: torch.device) -> nn.Module:
    tensors = [*network.parameters(), *network.buffers()]
    return network if all(t.device.type == device.type for t in tensors) else deepcopy(network).to(device)


@contextmanager
def _evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _threads(threads: int | None) -> Iterator[int]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
