"""Measure how long networks take for a batch, side by side in one process."""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from mmrecast.analysis.fold_bn import Folding
from mmrecast.analysis.latency_settings import LatencySettings

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
        dtype (str): Precision of weights and images.
        channels_last (bool): Whether they lay (N, H, W, C) in memory.
        compiled (bool): Whether the network went through ``torch.compile``.
        bn_folded, bn_layers (int, optional): BN layers folded, of how many; None where folding was not asked for.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    ratio: float
    batch_size: int = 1
    device: str = 'cpu'
    threads: int = 1
    repeats: int = 0
    dtype: str = 'float32'
    channels_last: bool = False
    compiled: bool = False
    bn_folded: int | None = None
    bn_layers: int | None = None

    @property
    def ms_per_image(self) -> float:
        """Median time divided by the batch size."""
        return self.median_ms / self.batch_size


@dataclass(frozen=True)
class Bench:
    """Networks placed as the settings want them, and a batch for them.

    Args:
        networks (dict[str, nn.Module]): By name; each has run once.
        images (Tensor): (N, C, H, W).
        wait (Callable): Waits for the device.
        threads (int): PyTorch's threads on the CPU.
        foldings (dict[str, Folding | None]): What was folded, by name.
    """

    networks: dict[str, nn.Module]
    images: Tensor
    wait: Callable[[], None]
    threads: int
    foldings: dict[str, Folding | None]


def compare_latency(
    networks: dict[str, nn.Module],
    input_shape: Sequence[int],
    batch_size: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    device: str = 'cpu',
    threads: int | None = None,
    dtype: str = 'float32',
    channels_last: bool = False,
    compile: bool = False,
    fuse_bn: bool = False,
) -> dict[str, Latency]:
    """Time the networks in turns, so that what slows the machine for a while slows all of them.

    A round runs every network once; each round begins with another one. A pass that another process interrupted
    is repeated, for at most a tenth of a second. The networks are left as they were: where the settings ask for
    another form, copies are timed.

    Args:
        networks (dict[str, nn.Module]): By name; the first is what the others are compared to.
        input_shape (Sequence[int]): ``(C, H, W)`` of one image.
        batch_size (int): Images per forward pass. Defaults to 1.
        repeats (int): Measured rounds. Defaults to 30.
        warmup (int): Rounds that are not measured. Defaults to 5.
        device, threads, dtype, channels_last, compile, fuse_bn: See :class:`LatencySettings`.

    Raises:
        ValueError: No networks, a count below one (below zero for ``warmup``), a setting that is not to be had here,
            or a network that does not run with it.
    """
    settings = LatencySettings(device, dtype, channels_last, compile, fuse_bn, threads)
    check_counts(batch_size=batch_size, repeats=repeats, warmup=warmup)
    with bench(networks, input_shape, batch_size, settings) as ready:
        passes = {name: _whole_pass(network, ready) for name, network in ready.networks.items()}
        times = {name: [ms for (ms,) in own] for name, own in rounds(passes, warmup, repeats).items()}
    first = times[next(iter(times))]
    return {
        name: Latency(
            median(own),
            *outer_deciles(own),
            ratio=median(f / t for f, t in zip(first, own, strict=True)),
            batch_size=batch_size,
            device=_device_name(ready.images.device),
            threads=ready.threads,
            repeats=repeats,
            dtype=dtype,
            channels_last=channels_last,
            compiled=compile,
            bn_folded=ready.foldings[name].folded if fuse_bn else None,
            bn_layers=ready.foldings[name].layers if fuse_bn else None,
        )
        for name, own in times.items()
    }


def check_counts(**counts: int) -> None:
    """Refuse a ``warmup`` below zero and any other count below one.

    Raises:
        ValueError: One is.
    """
    for name, value in counts.items():
        least = 0 if name == 'warmup' else 1
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')


@contextmanager
def bench(
    networks: dict[str, nn.Module], input_shape: Sequence[int], batch_size: int, settings: LatencySettings
) -> Iterator[Bench]:
    """Place the networks as the settings want them, run each once, and put everything back on leaving.

    Raises:
        ValueError: There are no networks, or one does not run.
    """
    if not networks:
        raise ValueError('a measurement of latency needs at least one network, got none')
    images = settings.images(batch_size, input_shape)
    placed = {name: settings.place(network, input_shape) for name, network in networks.items()}
    plain = {name: network for name, (network, _) in placed.items()}
    wait: Callable[[], None] = (lambda: torch.cuda.synchronize(images.device)) if images.is_cuda else (lambda: None)
    with settings.applied(list(plain.values())) as threads:
        ready = settings.compiled(plain)
        for name, network in ready.items():
            _try(name, network, images, settings)
        yield Bench(ready, images, wait, threads, {name: folding for name, (_, folding) in placed.items()})


def rounds(
    passes: dict[Hashable, Callable[[], list[float]]], warmup: int, repeats: int
) -> dict[Hashable, list[list[float]]]:
    """Run the passes in turns and return, by name, what each gave in every measured round.

    Args:
        passes (dict): By name, what runs a network and returns the milliseconds of its parts.
        warmup (int): Rounds that are not measured.
        repeats (int): Measured rounds.
    """
    names = list(passes)
    times: dict[Hashable, list[list[float]]] = {name: [] for name in names}
    for number in range(warmup + repeats):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            parts = _undisturbed(passes[name])
            if number >= warmup:
                times[name].append(parts)
    return times


def outer_deciles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 10th and the 90th percentile."""
    if len(values) == 1:
        return values[0], values[0]
    deciles = quantiles(values, n=10, method='inclusive')
    return deciles[0], deciles[-1]


def _whole_pass(network: nn.Module, ready: Bench) -> Callable[[], list[float]]:
    def run() -> list[float]:
        ready.wait()
        start = time.perf_counter()
        network(ready.images)
        ready.wait()
        return [(time.perf_counter() - start) * 1000]

    return run


def _undisturbed(run: Callable[[], list[float]]) -> list[float]:
    """Return the milliseconds of a pass; one in which another process took the processor is repeated.

    Longer passes are interrupted more often: on a busy machine they would seem slower than they are, and by more.
    """
    shortest, begin = [float('inf')], time.perf_counter()
    while True:
        before = _interruptions()
        shortest = min(shortest, run(), key=sum)
        if _interruptions() == before or time.perf_counter() - begin >= PATIENCE:
            return shortest


def _interruptions() -> int:
    """Return how often the system has taken the processor from this process; 0 where it does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _try(name: str, network: nn.Module, images: Tensor, settings: LatencySettings) -> None:
    try:
        network(images)
    except Exception as error:  # a network of the user's, a missing kernel or a compiler may raise anything
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        given = f'{settings.text}, for {len(images)} images of {tuple(images.shape[1:])}'
        raise ValueError(f'{name} does not run ({given}): {line}') from error


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type
