"""What a teacher's candidates take on this machine: measured once, and kept for the next budget.

A file is found again for the same teacher's structure, candidates, way of measuring, machine and PyTorch. A plan that
is chosen by it is measured itself afterwards, beside the teacher, and chosen again where it is slower than asked for.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.engine.hooks import machine
from mmrecast.planning.budgets import KINDS
from mmrecast.planning.candidates import Candidate
from mmrecast.planning.choice import Choice
from mmrecast.planning.costs import Line, costs_of, line_through, options_of, random_choices, time_networks
from mmrecast.surgery.chain import Chain
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.digests import digest

CALIBRATION = 8  # random plans that are measured whole
TRIES = 3  # of a calibration, each with four times as many rounds


@dataclass(frozen=True)
class Latencies:
    """What candidates and whole networks take.

    Args:
        costs (list[list[dict]]): Per block and candidate, see `costs_of`.
        teacher_ms (float): Milliseconds of the teacher's forward pass.
        line (Line): From the sum over blocks to the whole network.
        when (str): When they were measured, as '2026-11-28 12:00'.
    """

    costs: list[list[dict[str, float]]]
    teacher_ms: float
    line: Line
    when: str

    @classmethod
    def from_dict(cls, content: dict, counts: Sequence[int]) -> 'Latencies':
        """Return those that `asdict` made, of so many candidates per block.

        Raises:
            KeyError, TypeError, ValueError: It is no such dict.
        """
        costs = [[{kind: float(one[kind]) for kind in KINDS} for one in own] for own in content['costs']]
        line, teacher_ms = Line(**content['line']), float(content['teacher_ms'])
        numbers = [teacher_ms, line.slope, *(one['ms'] for own in costs for one in own)]
        if [len(own) for own in costs] != list(counts) or not all(0 < x < math.inf for x in numbers):
            raise ValueError('these are not the latencies of these candidates')
        if not math.isfinite(line.intercept) or not isinstance(content['when'], str):
            raise ValueError('these are no latencies')
        return cls(costs, teacher_ms, line, content['when'])


def latencies_of(
    teacher: nn.Module,
    chain: Chain,
    candidates: Sequence[Sequence[Candidate]],
    folder: str | Path | None = None,
    again: bool = False,
    told: Callable[[str], None] = lambda line: None,
    **measuring,
) -> Latencies:
    """Measure candidates and whole networks, or read what was measured before.

    Args:
        teacher (nn.Module): The teacher.
        chain (Chain): Its chain.
        candidates (Sequence[Sequence[Candidate]]): Per block, as `candidates_of` gives them.
        folder (str | Path, optional): Where latencies are kept. Defaults to None: nowhere.
        again (bool): Whether to measure what is kept already. Defaults to False.
        told (Callable): Gets a line on what was done. Defaults to nothing.
        **measuring: As `costs_of`.

    Raises:
        ValueError: As `costs_of` and `calibrate`.
    """
    file = None if folder is None else Path(folder) / f'latencies-{_key(teacher, chain, candidates, measuring)}.json'
    if file is not None and file.is_file() and not again:
        try:
            found = Latencies.from_dict(json.loads(file.read_text(encoding='utf-8')), [len(own) for own in candidates])
        except (KeyError, TypeError, ValueError, RecursionError):
            found = None  # a damaged file is written anew
        if found is not None:
            told(f'latencies as measured at {found.when} ({file})')
            return found
    costs = costs_of(teacher, chain, candidates, **measuring)
    free = [[0.0] * len(own) for own in candidates]
    probes = random_choices(options_of(candidates, costs, free), 'ms', CALIBRATION)
    teacher_ms = time_networks([lambda: teacher], teacher, chain.input_shape, **measuring)[0][0]
    line = fitted_line(teacher, chain, probes, teacher_ms, **measuring)
    told(f'whole network = {line.intercept:.3f} ms + {line.slope:.3f} x its blocks')
    found = Latencies(costs, teacher_ms, line, time.strftime('%Y-%m-%d %H:%M'))
    if file is not None:
        write_json(asdict(found), file)
    return found


def fitted_line(
    teacher: nn.Module, chain: Chain, probes: Sequence[Choice], teacher_ms: float, repeats: int = 20, **measuring
) -> Line:
    """Fit a line as `line_through` does, for longer where it does not rise: a machine may have had other work.

    Raises:
        ValueError: As `calibrate`, after ``TRIES`` times.
    """
    for patience in range(TRIES):
        try:
            return line_through(teacher, chain, probes, teacher_ms, repeats=repeats * 4**patience, **measuring)
        except ValueError as error:  # the machine had more to do with some networks than with others
            last = error
    raise last


def _key(teacher: nn.Module, chain: Chain, candidates: Sequence[Sequence[Candidate]], measuring: dict) -> str:
    settings = measuring.get('settings') or LatencySettings()
    how = {name: value for name, value in measuring.items() if name != 'settings'} | asdict(settings)
    own = [[asdict(candidate) for candidate in block] for block in candidates]
    return digest([repr(teacher), list(chain.input_shape), own, how, machine(), torch.__version__])
