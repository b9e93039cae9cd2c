"""What each candidate takes: weights and multiplications counted, milliseconds measured.

::

    candidates ─▶ forms ─▶ timed alone, in turns ─┐
    random plans ─▶ networks ─▶ timed whole ──────┴─▶ whole = intercept + slope · Σ blocks

Candidates of one form (same block, same widths, same map) take the same, and are counted and timed once. Alone, blocks
run faster or slower than among others: some random plans that are measured whole, too, calibrate the sum.
"""

import copy
import json
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median

import numpy as np
import torch
from torch import nn

from mmrecast.analysis.complexity import Complexity, convention_for, count
from mmrecast.analysis.latency import check_counts, compare_latency, rounds
from mmrecast.analysis.latency_settings import DTYPES, LatencySettings
from mmrecast.analysis.module_pass import ModulePass, view_of
from mmrecast.planning.budgets import KINDS
from mmrecast.planning.candidates import Candidate
from mmrecast.planning.choice import Choice, Option, cheapest, choose
from mmrecast.registry import BLOCKS
from mmrecast.surgery.apply import replay
from mmrecast.surgery.chain import Chain, Shape
from mmrecast.surgery.describe import rebuild
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.spans import block_at

AT_ONCE = 8  # networks in memory while some are measured whole


@dataclass(frozen=True)
class Line:
    """How the whole network's milliseconds follow from the sum over its blocks.

    Args:
        slope (float): Milliseconds of the whole per millisecond of the sum.
        intercept (float): What does not depend on the blocks: stem, glue, head.
    """

    slope: float
    intercept: float

    def whole(self, blocks_ms: float) -> float:
        """Return the prediction for a network."""
        return self.intercept + self.slope * blocks_ms

    def blocks(self, whole_ms: float) -> float:
        """Return the sum over the blocks at which the whole takes ``whole_ms``."""
        return (whole_ms - self.intercept) / self.slope


def costs_of(
    network: nn.Module,
    chain: Chain,
    candidates: Sequence[Sequence[Candidate]],
    batch_size: int = 1,
    repeats: int = 20,
    warmup: int = 5,
    settings: LatencySettings | None = None,
) -> list[list[dict[str, float]]]:
    """Count and time every candidate.

    Args:
        network (nn.Module): The teacher, for the blocks that are kept.
        chain (Chain): Its chain.
        candidates (Sequence[Sequence[Candidate]]): Per block, as `candidates_of` gives them.
        batch_size (int): Images per pass. Defaults to 1.
        repeats, warmup (int): Rounds, each of which runs every form once. Defaults to 20 and 5.
        settings (LatencySettings, optional): Device, precision and so on. Defaults to float32 on the CPU.

    Returns:
        list[list[dict]]: Per block and candidate its costs by ``KINDS``; what is counted is of one image.

    Raises:
        ValueError: A count is too small, or the networks are to be compiled: blocks are timed one by one.
    """
    settings = settings or LatencySettings()
    check_counts(batch_size=batch_size, repeats=repeats, warmup=warmup)
    if settings.compile:
        raise ValueError('blocks that are timed one by one say nothing of a compiled network: plan without compile')
    forms: dict[Hashable, tuple[nn.Module, Shape]] = {}
    keys = []
    for block, own in zip(chain.blocks, candidates, strict=True):
        keys.append([])
        for candidate in own:
            shape = (candidate.in_channels, *block.in_shape[1:])
            module = _built(network, block.path, block.span, candidate)
            key = (repr(module), shape) if candidate.target is None else (json.dumps(candidate.target), shape)
            forms.setdefault(key, (module, shape))
            keys[-1].append(key)
    convention = convention_for(chain.input_shape)
    counts = {key: count(module, shape, convention) for key, (module, shape) in forms.items()}
    times = _timed(forms, batch_size, repeats, warmup, settings)
    return [[dict(ms=times[key]) | counted(counts[key]) for key in own] for own in keys]


def counted(counts: Complexity) -> dict[str, float]:
    """Return the kinds of cost that are counted."""
    return {kind: float(getattr(counts, kind)) for kind in KINDS if kind != 'ms'}


def options_of(
    candidates: Sequence[Sequence[Candidate]],
    costs: Sequence[Sequence[dict[str, float]]],
    prices: Sequence[Sequence[float | None]],
) -> list[list[Option]]:
    """Return what a choice is made among; a candidate without a price (None) is none of it."""
    return [
        [
            Option(c.enters, c.leaves, price, cost, c)
            for c, cost, price in zip(own, own_costs, own_prices, strict=True)
            if price is not None
        ]
        for own, own_costs, own_prices in zip(candidates, costs, prices, strict=True)
    ]


def recipe_of(choice: Choice) -> list[dict]:
    """Return the rules of a choice, one per block that is recast."""
    return [option.what.rule for option in choice.options if option.what.rule is not None]


def student_of(network: nn.Module, chain: Chain, choice: Choice) -> nn.Module:
    """Return the untrained student of a choice."""
    return student_by(network, chain, recipe_of(choice))


def student_by(network: nn.Module, chain: Chain, recipe: Sequence[Mapping]) -> nn.Module:
    """Return the untrained student that a recipe makes; of no rules, a copy of the network.

    Raises:
        ValueError, KeyError: As `make_plan`.
    """
    student, rules = copy.deepcopy(network), [dict(rule) for rule in recipe]
    return replay(student, make_plan(network, rules, chain.input_shape, chain)) if rules else student


def random_choices(blocks: Sequence[Sequence[Option]], kind: str, number: int, seed: int = 0) -> list[Choice]:
    """Return different choices at random, spread over the range of costs from the cheapest to the dearest in turn."""
    rng = random.Random(seed)
    low = cheapest(blocks, kind).cost(kind)
    high = sum(max(option.costs[kind] for option in own) for own in blocks)
    found: list[Choice] = []
    for i in range(4 * number):
        drawn = [[Option(o.enters, o.leaves, rng.random(), o.costs, o.what) for o in own] for own in blocks]
        budget = low + (high - low) * (1 + i % number) / number
        choice = choose(drawn, {kind: budget})
        if choice is not None and choice.positions not in [c.positions for c in found]:
            found.append(choice)
        if len(found) == number:
            break
    return found


def time_choices(network: nn.Module, chain: Chain, choices: Sequence[Choice], **measuring) -> list[tuple[float, float]]:
    """Time the students of some choices; see `time_networks`."""
    builders = [lambda c=choice: student_of(network, chain, c) for choice in choices]
    return time_networks(builders, network, chain.input_shape, **measuring)


def line_through(network: nn.Module, chain: Chain, choices: Sequence[Choice], whole_ms: float, **measuring) -> Line:
    """Fit a line through the students of some choices, timed beside the network: a clock may change in between.

    Args:
        network (nn.Module): The teacher.
        chain (Chain): Its chain.
        choices (Sequence[Choice]): At least three.
        whole_ms (float): What the network itself is said to take.
        **measuring: As `time_networks`.

    Raises:
        ValueError: As `calibrate`.
    """
    speedups = [speedup for _, speedup in time_choices(network, chain, choices, **measuring)]
    return calibrate([choice.cost('ms') for choice in choices], [whole_ms / speedup for speedup in speedups])


def calibrate(sums: Sequence[float], wholes: Sequence[float]) -> Line:
    """Fit a line through measured networks, by the least squares of relative errors: fast ones count as much as slow.

    Args:
        sums (Sequence[float]): Of each, the sum over its blocks in milliseconds.
        wholes (Sequence[float]): And what the whole takes.

    Raises:
        ValueError: There are fewer than three, or the whole does not grow with the sum.
    """
    if len(sums) < 3:
        raise ValueError(f'a calibration needs at least three networks, got {len(sums)}')
    slope, intercept = np.polyfit(sums, wholes, 1, w=1 / np.array(wholes))
    if not slope > 0:
        raise ValueError(
            'the measured networks do not take longer where their blocks do: measure again on a quieter machine, '
            'or with more repeats'
        )
    return Line(float(slope), float(intercept))


def time_networks(
    networks: Sequence[Callable[[], nn.Module]],
    reference: nn.Module,
    input_shape: Shape,
    batch_size: int = 1,
    repeats: int = 20,
    warmup: int = 5,
    settings: LatencySettings | None = None,
) -> list[tuple[float, float]]:
    """Time networks some at once, in turns with a reference.

    Args:
        networks (Sequence[Callable]): Each builds one.
        reference (nn.Module): The teacher.
        input_shape (tuple[int]): (C, H, W).
        batch_size, repeats, warmup, settings: As `costs_of`.

    Returns:
        list[tuple[float, float]]: Of each, milliseconds and its speed-up over the reference, measured beside it.
    """
    settings = settings or LatencySettings()
    made = []
    for begin in range(0, len(networks), AT_ONCE):
        named = dict(reference=reference) | {
            str(i): build() for i, build in enumerate(networks[begin : begin + AT_ONCE])
        }
        latencies = compare_latency(
            named, input_shape, batch_size, repeats, warmup, settings.device, settings.threads, settings.dtype,
            settings.channels_last, settings.compile, settings.fuse_bn,
        )  # fmt: skip
        made += [(one.median_ms, one.ratio) for name, one in latencies.items() if name != 'reference']
    return made


def _built(network: nn.Module, path: str, span: tuple[str, ...], candidate: Candidate) -> nn.Module:
    if candidate.target is not None:
        return BLOCKS.build(dict(candidate.target))
    block = block_at(network, path, span)
    if isinstance(block, nn.Sequential) and span:
        first, *rest = block
        return nn.Sequential(_reading(first, candidate.in_channels), *rest)
    return _reading(block, candidate.in_channels)


def _reading(block: nn.Module, width: int) -> nn.Module:
    probe = next((m for m in block.modules() if isinstance(m, nn.Conv2d)), None)
    if probe is None or probe.in_channels == width:
        return block
    return rebuild(block, width)


@torch.no_grad()
def _timed(
    forms: dict[Hashable, tuple[nn.Module, Shape]],
    batch_size: int,
    repeats: int,
    warmup: int,
    settings: LatencySettings,
) -> dict[Hashable, float]:
    """Return the median milliseconds of every form; the forms take turns and share the memory of their input."""
    longest = max(prod(shape) for _, shape in forms.values())
    memory = torch.rand(batch_size * longest).to(settings.device, DTYPES[settings.dtype])
    placed = {key: settings.place(copy.deepcopy(module).eval(), shape)[0] for key, (module, shape) in forms.items()}
    wait = (lambda: torch.cuda.synchronize(memory.device)) if memory.is_cuda else (lambda: None)
    passes = {}
    with settings.applied(list(placed.values())):
        for key, (_, shape) in forms.items():
            inputs = [view_of(memory, (batch_size, *shape), settings.channels_last)]
            passes[key] = ModulePass(placed[key], inputs, wait)
        return {key: median(ms for (ms,) in own) for key, own in rounds(passes, warmup, repeats).items()}
