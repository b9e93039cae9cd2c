"""Measure how long each block of a network takes within a forward pass.

::

    images ─ stem ─┤ block 0 ├─ gap ─┤ block 1 ├─ … ─┤ block n ├─ head ─ logits
                   mark      mark    mark                      mark
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median

import torch
from torch import nn

from mmrecast.analysis.latency import Bench, bench, check_counts, outer_deciles, rounds
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.utils.modules import get_module, hooked


@dataclass(frozen=True)
class Part:
    """Time of a part of a forward pass.

    Args:
        median_ms (float): Median over the rounds, in milliseconds.
        p10_ms (float): 10th percentile.
        p90_ms (float): 90th percentile.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Part':
        """Return the statistics of milliseconds."""
        return cls(median(values), *outer_deciles(values))


@dataclass(frozen=True)
class BlockLatency:
    """Time of each part of a network's forward pass; medians of the parts need not add up to the whole's.

    Args:
        stem (Part): What comes before the first block.
        blocks (dict[str, Part]): By path.
        gaps (dict[str, Part]): What lies behind each block but the last, before the next one, by the block's path.
        head (Part): What comes behind the last block.
        total (Part): The whole pass with its marks.
        unmarked (Part): The whole pass without them; the difference is what the marks cost.
    """

    stem: Part
    blocks: dict[str, Part]
    gaps: dict[str, Part]
    head: Part
    total: Part
    unmarked: Part


def compare_blocks(
    networks: dict[str, nn.Module],
    spans: Sequence[tuple[str, str]],
    input_shape: Sequence[int],
    batch_size: int = 1,
    repeats: int = 30,
    warmup: int = 5,
    settings: LatencySettings | None = None,
) -> dict[str, BlockLatency]:
    """Time every block of the networks, which take turns; passes with and without marks alternate.

    On a GPU the marks are CUDA events: a block's time holds what the GPU waits for within it, too.

    Args:
        networks (dict[str, nn.Module]): By name; all hold the blocks.
        spans (list[tuple[str, str]]): Of each block, in calling order, the path of the module that gets its input and
            of the one that gives its output (the same one, in most networks).
        input_shape (Sequence[int]): (C, H, W) of one image.
        batch_size (int): Images per forward pass. Defaults to 1.
        repeats (int): Measured rounds. Defaults to 30.
        warmup (int): Rounds that are not measured. Defaults to 5.
        settings (LatencySettings, optional): How the networks are run. Defaults to None: float32 on the CPU.

    Raises:
        ValueError: There are no networks or no blocks, a count is too small, the networks are to be compiled (no module
            is called then), one does not run, or its blocks are not called once each in that order.
        KeyError: A network has no such block.
    """
    settings = settings or LatencySettings()
    check_counts(batch_size=batch_size, repeats=repeats, warmup=warmup)
    if not spans:
        raise ValueError('a measurement of blocks needs at least one block, got none')
    if settings.compile:
        raise ValueError('a compiled network calls no modules: measure its blocks without compile')
    with bench(networks, input_shape, batch_size, settings) as ready:
        passes: dict[Hashable, Callable[[], list[float]]] = {}
        for name in networks:
            marked = _MarkedPass(name, ready, spans)
            marked.check()
            passes[name, True], passes[name, False] = marked, _MarkedPass(name, ready, ())
        times = rounds(passes, warmup, repeats)
    return {name: _summary(times[name, True], times[name, False], spans) for name in networks}


class _MarkedPass:
    """A forward pass that returns the milliseconds between marks at the beginning and end of every block."""

    def __init__(self, name: str, ready: Bench, spans: Sequence[tuple[str, str]]) -> None:
        self.name, self.network, self.images, self.wait = name, ready.networks[name], ready.images, ready.wait
        self.points: list[tuple[str, nn.Module, nn.Module]] = [
            (path, get_module(self.network, path), get_module(self.network, output)) for path, output in spans
        ]
        self.marks: list = []

    def __call__(self) -> list[float]:
        """Run the network once and return the parts' milliseconds."""
        self.marks = []
        handles = []
        for _, first, last in self.points:
            handles.append(first.register_forward_pre_hook(lambda *args: self._mark()))
            handles.append(last.register_forward_hook(lambda *args: self._mark()))
        with hooked(handles):
            self.wait()
            self._mark()
            self.network(self.images)
            self._mark()
            self.wait()
        pairs = zip(self.marks, self.marks[1:], strict=False)
        if self.images.is_cuda:
            return [before.elapsed_time(after) for before, after in pairs]
        return [(after - before) * 1000 for before, after in pairs]

    def check(self) -> None:
        """Refuse blocks that are not called once each, in their order.

        Raises:
            ValueError: One is not.
        """
        called: list[str] = []
        expected: list[str] = []
        handles = []
        for path, first, last in self.points:
            enter, leave = f'the beginning of {path!r}', f'the end of {path!r}'
            expected += [enter, leave]
            handles.append(first.register_forward_pre_hook(lambda *args, mark=enter: called.append(mark)))
            handles.append(last.register_forward_hook(lambda *args, mark=leave: called.append(mark)))
        with hooked(handles):
            self.network(self.images)
        for came, wanted in zip_longest(called, expected, fillvalue='nothing more'):
            if came != wanted:
                raise ValueError(
                    f'the blocks of {self.name} are not called once each, in order: {came} where {wanted} should come'
                )

    def _mark(self) -> None:
        if self.images.is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.images.device))
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())


def _summary(marked: list[list[float]], unmarked: list[list[float]], spans: Sequence[tuple[str, str]]) -> BlockLatency:
    stem, *inner, head = zip(*marked, strict=True)
    paths = [path for path, _ in spans]
    blocks, gaps = inner[::2], inner[1::2]
    return BlockLatency(
        stem=Part.of(stem),
        blocks={path: Part.of(values) for path, values in zip(paths, blocks, strict=True)},
        gaps={path: Part.of(values) for path, values in zip(paths[:-1], gaps, strict=True)},
        head=Part.of(head),
        total=Part.of([sum(parts) for parts in marked]),
        unmarked=Part.of([sum(parts) for parts in unmarked]),
    )
